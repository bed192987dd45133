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
from quantrecipe.cli.eval.continuations import find_continuations
from quantrecipe.cli.eval.extras import Extra
from quantrecipe.cli.eval.questions import find_questioned
from quantrecipe.cli.eval.reference import Unmade, find_reference, is_saved, make
from quantrecipe.cli.eval.subjects import Subject, made, named, plan_subjects, unquantized_plan
from quantrecipe.cli.options.texts import texts_of
from quantrecipe.cli.output_files import default_name
from quantrecipe.cli.progress import EvalBar
from quantrecipe.cli.units import counted
from quantrecipe.engine import RunOptions, Session
from quantrecipe.engine.session import existing_gguf
from quantrecipe.evaluate import Reference, Text
from quantrecipe.evaluate.prompts import FEWEST_PROMPTS, read_prompts
from quantrecipe.evaluate.questions import FEWEST_QUESTIONS, read_questions
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
    continuations: int | None
    questions: Path | None
    save: Path | None
    force: bool
    n_ctx: int | None
    chunks: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What `eval` found out. answered: None without prompts; extras: continuations and questions, as asked for."""

    reference: Reference
    candidates: list[Candidate]
    answered: Answered | None
    extras: Sequence[Extra[Any, Any]] = ()

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            "reference": self.reference.to_json() | {"path": self.reference.path},
            "files": self.candidates,
            "answers": self.answered,
            **dict.fromkeys(("continuations", "questions")),
            **{extra.key: extra for extra in self.extras},
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
    extras = _find_extras(ctx, request, files, reference, model, registry, **running)
    missing = (
        isinstance(reference, Unmade) or isinstance(known, Unanswered) or any(it.missing for it in extras)
    )
    plans = [(it.plan, it.path.name) for it in subjects if it.plan is not None]
    if model is not None and not is_gguf and missing:
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
            if missing:
                with opened(unquantized, **running) as session:
                    if isinstance(known, Unanswered):  # first, since a prompt may be too long
                        said = answer_first(known, session, progress=progress)
                    if isinstance(reference, Unmade):
                        reference = make(reference, session, progress=progress)
                    extras = [it.first(session, reference, progress) if it.missing else it for it in extras]

            if isinstance(reference, Unmade):
                raise AssertionError("it was made above")
            whole = reference

            def also(name: str, session: Session) -> None:
                nonlocal said, extras
                if said is not None:
                    said = answer_too(said, name, session, progress=progress)
                extras = [it.too(name, session, whole, progress) for it in extras]

            candidates = evaluate_files(sizes, reference, progress=progress, also=also, **running)
    return Outcome(reference=reference, candidates=candidates, answered=said, extras=extras)


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
    asked = {
        "it is to answer the --prompts": request.prompts,
        "it is to answer the --questions": request.questions,
        "it is to go on with the texts (--continuations)": request.continuations,
    }
    wants = [what for what, given in asked.items() if given is not None]
    if saved and (recipes or wants):
        what = f"{recipes[0]} is a recipe, to be applied to it" if recipes else wants[0]
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


def _find_extras(
    ctx: Context,
    request: Request,
    files: tuple[Path, ...],
    reference: Reference | Unmade,
    model: Model | None,
    registry: Registry,
    **running: Unpack[RunOptions],
) -> list[Extra[Any, Any]]:
    """What else the files are to do, with what the cache knows of the reference's part."""
    found: list[Extra[Any, Any]] = []
    if request.continuations is not None:
        found.append(find_continuations(request.continuations, reference, engine=running.get("engine")))
    if request.questions is not None:
        questions = read_questions(
            request.questions, lambda: chat_template(model or _opened(request.reference, registry))
        )
        if len(questions) < FEWEST_QUESTIONS:
            what = f"{request.questions} has only {counted(len(questions), 'question')}: shares of them say little"
            print_warning(ctx.err, what, f"give {FEWEST_QUESTIONS} or more")
        most, engine = request.answer_tokens, running.get("engine")
        found.append(find_questioned(files, questions, request.questions, most=most, engine=engine))
    return found
