"""quantrecipe fit: the mix that loses least within a budget, as a recipe to review."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.apply import model_stem
from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_warning, printable
from quantrecipe.cli.imatrix_output import write_file
from quantrecipe.cli.options.amounts import count_option
from quantrecipe.cli.options.limits import budget_options, limits_text
from quantrecipe.cli.options.paths import FILE, file_option, folder_option
from quantrecipe.cli.options.shared import (
    arch_option,
    engine_option,
    json_option,
    requantize_option,
    threads_option,
)
from quantrecipe.cli.options.target import target_option
from quantrecipe.cli.settings import print_notes
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.evaluate import Engine, Text
    from quantrecipe.fit import Fitted, Request
    from quantrecipe.fit.opened import Floor
    from quantrecipe.importance import Importance
    from quantrecipe.model.model import Model
    from quantrecipe.recipe.budget import Budget
    from quantrecipe.recipe.target import Target
    from quantrecipe.registry import Registry
    from quantrecipe.sensitivity.sensitivity import Sensitivity

__all__ = ["command"]

_DEFAULT_PROBES = 30
_TOKENS = 16384  # of the text that each probe reads
_TRIAL_TOKENS = 32768


@subcommand(
    "fit",
    "quantrecipe fit model-BF16.gguf --size 5.2GiB --imatrix imatrix.gguf -o mine.yaml",
    "quantrecipe fit model-BF16.gguf --like Q4_K_M --text calibration.txt -o mine.yaml",
    "quantrecipe fit model-BF16.gguf --vram 12GiB --context 32768 --kv q8_0",
    "quantrecipe fit shapes/qwen3-14b --bpw 4.5 --floor attn_v=Q5_K",
)
@click.argument("model", type=FILE)
@file_option("-o", "--output", metavar="RECIPE", help="Where to write the recipe. [default: standard output]")
@click.option("--like", metavar="NAME", help="As many bytes as a preset (Q4_K_M), or as a recipe makes.")
@budget_options
@file_option("--imatrix", help="Importance matrix: losses are those of the outputs.")
@file_option(
    "--text",
    "texts",
    multiple=True,
    help="Calibration text: finds out by running the model which tensors matter. May be given more than once.",
)
@click.option(
    "--raw",
    is_flag=True,
    help="Read texts as they are, even if they look like chats, tables or no text at all.",
)
@count_option("--probes", default=_DEFAULT_PROBES, help="With --text: passes over it, at most.")
@file_option(
    "--sensitivity", help="What `quantrecipe sensitivity` found, to go by; nothing is measured then."
)
@click.option("--prior", is_flag=True, help="Measure nothing: go by what is usual.")
@file_option(
    "--verify",
    "held_out",
    multiple=True,
    help="Held-out text: the result and the best preset are made, run over it and compared. Repeatable.",
)
@engine_option
@folder_option("--work-dir", help="Where temporary models go. [default: the current folder]")
@click.option(
    "--types",
    metavar="NAMES",
    help="Types to choose from, with commas between; globs are fine. [default: what runs well on the target]",
)
@click.option(
    "--floor",
    "floors",
    multiple=True,
    metavar="PATTERN=TYPE",
    help="Tensors that get nothing smaller than a type. May be given more than once.",
)
@click.option(
    "--tie",
    "ties",
    multiple=True,
    metavar="PATTERNS",
    help="Patterns, with commas between, of tensors that get one type in each layer: attn_q,attn_k,attn_v.",
)
@target_option
@click.option("--name", metavar="NAME", help="What the recipe is called. [default: as its file]")
@threads_option
@requantize_option
@arch_option
@click.option("--force", is_flag=True, help="Replace RECIPE if it exists.")
@json_option
@pass_context
def command(
    ctx: Context,
    /,
    model: Path,
    output: Path | None,
    like: str | None,
    budget: Budget | None,
    imatrix: Path | None,
    texts: tuple[Path, ...],
    raw: bool,
    probes: int,
    sensitivity: Path | None,
    prior: bool,
    held_out: tuple[Path, ...],
    engine: Path | None,
    work_dir: Path | None,
    types: str | None,
    floors: tuple[str, ...],
    ties: tuple[str, ...],
    target: Target | None,
    name: str | None,
    threads: int | None,
    allow_requantize: bool,
    arch: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Find the mix of types with which MODEL loses least within a budget, and write it down as a recipe.

    Say how large: --size, --bpw, --like, --vram, --ram or --active; several limits hold together. Losses are measured
    on the model's weights (better with --imatrix), and how much each tensor matters by running it over a text (--text);
    what isn't measured is taken as usual. The recipe names roles and layers, each with its reason, and plans to the
    types that were chosen. Where it isn't sure to lose less than a preset of llama.cpp, the recipe is that preset.
    """
    from quantrecipe.cli.needs import check_folder, check_output
    from quantrecipe.evaluate import read_text, require_engine
    from quantrecipe.fit import Request, fit
    from quantrecipe.importance import read_importance
    from quantrecipe.model.open import open_model

    if budget is None and like is None:
        raise click.UsageError("Say how large: --size, --bpw, --like, --vram, --ram or --active.")
    if sensitivity is not None and (texts or prior):
        raise click.UsageError("--sensitivity measures nothing: leave --text and --prior out.")
    if prior and texts:
        raise click.UsageError("--prior and --text exclude each other.")
    if output is not None and not force and output.exists():
        raise click.UsageError(f"{output} exists; --force replaces it.")
    check_output(output, force=force)
    if texts or held_out:
        check_folder(work_dir or Path(), option="--work-dir DIR")
    calibration = [read_text(path, raw=raw) for path in texts]
    unseen = [read_text(path, raw=raw) for path in held_out]
    registry = ctx.load_registry()
    opened = open_model(model, arch=arch, registry=registry)
    matrix = None if imatrix is None else read_importance(imatrix)
    request = Request(
        name=name or (output.stem if output is not None else model_stem(model)),
        budget=_budget(ctx, budget, like, opened, registry, matrix, allow_requantize=allow_requantize),
        types=_parts(types),
        floors=tuple(_floor(text) for text in floors),
        ties=tuple(_parts(text) for text in ties),
        target=target,
        allow_requantize=allow_requantize,
    )
    if held_out and not opened.has_weights:
        raise click.UsageError("--verify needs the model itself, and this is a shape file.")
    work = work_dir or Path()
    runs = held_out or (texts and opened.has_weights)
    found = require_engine(engine) if runs else None  # before what takes long
    known = _sensitivity(
        ctx,
        opened,
        request,
        registry,
        matrix,
        sensitivity,
        calibration,
        probes,
        threads,
        found,
        work,
        prior=prior,
    )
    fitted = fit(opened, request, registry, importance=matrix, sensitivity=known)
    if held_out:
        fitted = _tried(ctx, fitted, request, opened, registry, unseen, work, threads, found)
    if output is not None:
        data = fitted.text.encode()
        write_file(output, len(data), [data], force=force)
    _show(ctx, fitted, request.budget, output, as_json=as_json)


def _show(ctx: Context, fitted: Fitted, budget: Budget, output: Path | None, *, as_json: bool) -> None:
    """Without a file, the recipe goes to standard output, and what is said of it to standard error."""
    if as_json:
        from quantrecipe.cli.fit_table import fit_document

        ctx.print_json(fit_document(fitted))
        return
    from quantrecipe.cli.fit_table import render_fit

    console = ctx.console if output is not None else ctx.err
    console.print(render_fit(fitted))
    console.print(f"understood: {limits_text(budget)}")
    if output is None:
        click.echo(fitted.text, nl=False)
    else:
        console.print(f"wrote {printable(str(output))}")


def _budget(
    ctx: Context,
    budget: Budget | None,
    like: str | None,
    model: Model,
    registry: Registry,
    importance: Importance | None,
    *,
    allow_requantize: bool,
) -> Budget:
    from quantrecipe.cli.options.limits import COMMAND_LINE
    from quantrecipe.fit.fit import like_budget
    from quantrecipe.fit.stock import recipe_like, stock_plan
    from quantrecipe.recipe.budget import Budget
    from quantrecipe.recipe.origin import Origin

    budget = budget or Budget(origin=Origin(file=COMMAND_LINE, line=0))
    if like is None:
        return budget
    if budget.bpw is not None:
        raise click.UsageError("--like and --bpw exclude each other.")
    recipe = recipe_like(like, registry)
    print_notes(ctx, recipe)
    plan = stock_plan(recipe, model, registry, importance, allow_requantize=allow_requantize)
    return like_budget(plan, budget)


def _sensitivity(
    ctx: Context,
    model: Model,
    request: Request,
    registry: Registry,
    importance: Importance | None,
    file: Path | None,
    texts: Sequence[Text],
    probes: int,
    threads: int | None,
    engine: Engine | None,
    work: Path,
    *,
    prior: bool,
) -> Sensitivity | None:
    """What is known of the model: as a file has it, else as it is measured now; None where only the prior is left."""
    if file is not None:
        from quantrecipe.sensitivity.file import read_sensitivity

        return read_sensitivity(file)
    if prior:
        return None
    if not model.has_weights:
        print_warning(ctx.err, "a shape file has no weights to measure: losses are those of usual models")
        return None
    from quantrecipe.api import ModelAnalysis, TensorAnalysis
    from quantrecipe.cli.measure_progress import MeasureBar
    from quantrecipe.cli.sensitivity import warn_of_scope
    from quantrecipe.measure import Measurement, Passes, Subject, choose_types, measure, scope_of

    losses = registry.analyses["error" if importance is None else "imatrix"]
    weighing = registry.analyses["probe"] if texts else None
    assert isinstance(losses, TensorAnalysis)
    assert weighing is None or isinstance(weighing, ModelAnalysis)
    if not texts:
        print_warning(
            ctx.err,
            "how much each tensor matters isn't measured, but taken as usual",
            "--text CALIBRATION finds out, and makes much better mixes",
        )
    out = Path(f"{model_stem(model.path)}.sensitivity.jsonl")
    what = Measurement(
        types=choose_types(registry),
        analysis=losses,
        weighing=weighing,
        probes=probes,
        passes=Passes(texts=tuple(texts), tokens=_TOKENS, threads=threads, engine=engine) if texts else None,
        work=work,
        threads=threads,
    )
    subject = Subject(model=model, registry=registry, importance=importance)
    scope = scope_of(subject, what.types, allow_requantize=request.allow_requantize)
    warn_of_scope(ctx, scope, what.types)
    with MeasureBar(ctx.err) as progress:
        return measure(
            model,
            out,
            what,
            registry=registry,
            importance=importance,
            allow_requantize=request.allow_requantize,
            progress=progress,
        )


def _tried(
    ctx: Context,
    fitted: Fitted,
    request: Request,
    model: Model,
    registry: Registry,
    texts: Sequence[Text],
    work: Path,
    threads: int | None,
    engine: Engine | None,
) -> Fitted:
    from quantrecipe.fit.trial import hold_trial, settle

    with ctx.err.status("trying it on the text beside the best preset"):
        trial = hold_trial(
            fitted,
            model,
            registry,
            texts,
            folder=work,
            tokens=_TRIAL_TOKENS,
            threads=threads,
            engine=engine,
        )
    return fitted if trial is None else settle(fitted, request, trial)


def _parts(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _floor(text: str) -> Floor:
    from quantrecipe.fit.opened import Floor

    tensors, equals, type_ = text.rpartition("=")
    if not equals or not tensors.strip() or not type_.strip():
        raise click.BadParameter(f"{text!r} is no PATTERN=TYPE, such as attn_v=Q5_K", param_hint="--floor")
    return Floor(tensors=tensors.strip(), type=type_.strip())
