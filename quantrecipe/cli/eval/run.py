"""What `eval` does, from names on a command line to figures: what has to be made is made, and the models are run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import click

from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import print_warning
from quantrecipe.cli.eval.answers import Answered, Unanswered, answer_first, answer_too, find_answers
from quantrecipe.cli.eval.candidates import Candidate, evaluate_files, size_of
from quantrecipe.cli.eval.reference import Unmade, find_reference, is_saved, make
from quantrecipe.cli.eval.subjects import Subject, made, named, plan_subjects, unquantized_plan
from quantrecipe.cli.options.texts import texts_of
from quantrecipe.cli.output_files import default_name
from quantrecipe.cli.progress import EvalBar
from quantrecipe.engine import RunOptions, Session
from quantrecipe.engine.session import existing_gguf
from quantrecipe.evaluate import Reference, Text
from quantrecipe.evaluate.prompts import FEWEST_PROMPTS, read_prompts
from quantrecipe.evaluate.requests import opened
from quantrecipe.misplaced import is_gguf_inside
from quantrecipe.texts import chat_template, read_domains

if TYPE_CHECKING:
    from quantrecipe.model.model import Model
    from quantrecipe.registry import Registry

__all__ = ["Outcome", "Request", "run"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What `eval` is asked for, as its options say it."""

    subjects: tuple[str, ...]
    reference: Path
    texts: tuple[str, ...]
    raw: bool
    matrices: tuple[str, ...]
    another_model: bool
    statistics: Path | None
    allow_requantize: bool
    work_dir: Path | None
    keep: bool
    prompts: Path | None
    answer_tokens: int
    save: Path | None
    force: bool
    n_ctx: int | None
    chunks: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What `eval` found out. answered: None without prompts."""

    reference: Reference
    candidates: list[Candidate]
    answered: Answered | None

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            "reference": self.reference.to_json() | {"path": self.reference.path},
            "files": self.candidates,
            "answers": self.answered,
        }


def run(ctx: Context, request: Request, **running: Unpack[RunOptions]) -> Outcome:
    """Find out all of it. QuantrecipeError, before anything is made or run, for what is wrong in what was given."""
    wanted = [named(text) for text in request.subjects]
    saved, recipes = is_saved(request.reference), [it.text for it in wanted if it.recipe]
    _check(request, recipes, saved=saved)
    registry = ctx.load_registry()
    # A model is opened where something is made of it: files of recipes, or the GGUF that llama.cpp needs.
    is_gguf = not request.reference.exists() or is_gguf_inside(request.reference)
    model: Model | None = None
    if not saved and (recipes or not is_gguf):
        from quantrecipe.model.open_model import open_model

        model = open_model(request.reference, registry=registry)
    subjects = plan_subjects(
        *(ctx, wanted, request.matrices, model, registry),
        allow_requantize=request.allow_requantize,
        another_model=request.another_model,
        statistics=request.statistics,
    )
    sizes = [size_of(it, lambda: registry.by_ggml_type) for it in subjects]
    files: tuple[Path, ...] = ()
    if not saved:
        files = (existing_gguf(request.reference),) if model is None or is_gguf else model.files
    reference = find_reference(
        request.reference,
        files,
        _texts(ctx, request, model, registry, subjects, saved=saved),
        save=request.save,
        force=request.force,
        n_ctx=request.n_ctx,
        chunks=request.chunks,
        engine=running.get("engine"),
    )
    known = _find_answers(ctx, request, files, model, registry, **running)
    plans = [(it.plan, it.path.name) for it in subjects if it.plan is not None]
    if model is not None and not is_gguf and (isinstance(reference, Unmade) or isinstance(known, Unanswered)):
        plans.append((unquantized_plan(ctx, model, registry), default_name(model.path, "unquantized")))
    with made(
        ctx,
        plans,
        registry,
        folder=request.work_dir or Path(),
        keep=request.keep,
        force=request.force,
        threads=running.get("threads"),
    ) as paths:
        ours = iter(paths)
        sizes = [it if it.subject.plan is None else it.at(next(ours), kept=request.keep) for it in sizes]
        unquantized = next(ours, request.reference)
        with EvalBar(ctx.err) as progress:
            said = known if isinstance(known, Answered) else None
            if isinstance(reference, Unmade) or isinstance(known, Unanswered):
                with opened(unquantized, **running) as session:
                    if isinstance(known, Unanswered):  # first, since a prompt may be too long
                        said = answer_first(known, session, progress=progress)
                    if isinstance(reference, Unmade):
                        reference = make(reference, session, progress=progress)

            def answer(name: str, session: Session) -> None:
                nonlocal said
                if said is not None:
                    said = answer_too(said, name, session, progress=progress)

            candidates = evaluate_files(sizes, reference, progress=progress, also=answer, **running)
    return Outcome(reference=reference, candidates=candidates, answered=said)


def _texts(
    ctx: Context,
    request: Request,
    model: Model | None,
    registry: Registry,
    subjects: Sequence[Subject],
    *,
    saved: bool,
) -> list[Text]:
    """What is named, chats as the model's template writes them: that of the first file, if the reference was saved."""

    first = subjects[0].path if saved and subjects else request.reference
    return texts_of(
        ctx, read_domains(request.texts, raw=request.raw), lambda: model or _opened(first, registry)
    )


def _opened(path: Path, registry: Registry) -> Model:
    from quantrecipe.model.open_model import open_model

    return open_model(existing_gguf(path), registry=registry)


def _check(request: Request, recipes: list[str], *, saved: bool) -> None:
    """UsageError for options that don't go together."""
    if saved and (recipes or request.prompts is not None):
        what = (
            f"{recipes[0]} is a recipe, to be applied to it" if recipes else "it is to answer the --prompts"
        )
        raise click.UsageError(
            f"{request.reference} has only what a model said about texts. Give the model itself: {what}."
        )
    if request.matrices and not recipes:
        raise click.UsageError("--imatrix is for recipes, and there is none among the files.")
    if request.statistics is not None and not recipes:
        raise click.UsageError("--statistics is for recipes, and there is none among the files.")
    if request.keep and not recipes and is_gguf_inside(request.reference):
        raise click.UsageError("--keep is for files that are made, and none is.")


def _find_answers(
    ctx: Context,
    request: Request,
    files: tuple[Path, ...],
    model: Model | None,
    registry: Registry,
    **running: Unpack[RunOptions],
) -> Answered | Unanswered | None:
    if request.prompts is None:
        return None
    prompts = read_prompts(
        request.prompts, lambda: chat_template(model or _opened(request.reference, registry))
    )
    if len(prompts) < FEWEST_PROMPTS:
        count = "one prompt" if len(prompts) == 1 else f"{len(prompts)} prompts"
        what = f"{request.prompts} has only {count}: shares of them say little"
        print_warning(ctx.err, what, f"give {FEWEST_PROMPTS} or more")
    return find_answers(
        files, prompts, request.prompts, most=request.answer_tokens, engine=running.get("engine")
    )
