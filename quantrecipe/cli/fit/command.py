"""quantrecipe fit: the mix that loses least within a budget, as a recipe to review."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.fit.wishes import (
    budget_of,
    encoder_of,
    floor_of,
    goal_of,
    measured_now,
    parts_of,
    without_goal,
)
from quantrecipe.cli.measuring import DEFAULT_PROBES, DEFAULT_TOKENS
from quantrecipe.cli.options.amounts import Percent, count_option
from quantrecipe.cli.options.executors import check_executor, executor_options, found_executor
from quantrecipe.cli.options.limits import budget_options, limits_text
from quantrecipe.cli.options.paths import FILE, file_option, folder_option
from quantrecipe.cli.options.shared import (
    another_model_option,
    arch_option,
    engine_option,
    json_option,
    requantize_option,
    statistics_option,
    threads_option,
)
from quantrecipe.cli.options.target import target_option
from quantrecipe.cli.options.texts import TEXT_GRAMMAR, raw_option, text_option, texts_of
from quantrecipe.cli.output_files import model_stem, write_text
from quantrecipe.cli.planned.inputs import grams_in, importance_of, sensitivity_in
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.fit import Fitted
    from quantrecipe.fit.request import LikeBytes
    from quantrecipe.model.model import Model
    from quantrecipe.recipe.budget import Budget, SpeedLimit
    from quantrecipe.recipe.target import Target
    from quantrecipe.registry import Registry

__all__ = ["command"]

_LIKE = {
    "tensors": "in its tensors",
    "file": "in its file",
    "without-tables": "in its tables, and in all other tensors",
}
DEFAULT_EVALUATIONS = 16
"""Mixes that are tried, at most: about as long as the probes take."""

# Tokens of held-out text that both files are run over: twice what a probe reads, since the answer is final.
_TRIAL_TOKENS = 32768


@subcommand(
    "fit",
    "quantrecipe fit model-BF16.gguf --size 5.2GiB --imatrix imatrix.gguf -o mine.yaml",
    "quantrecipe fit model-BF16.gguf --like Q4_K_M --text calibration.txt -o mine.yaml",
    "quantrecipe fit model-BF16.gguf --vram 12GiB --context 32768 --kv q8_0",
    "quantrecipe fit shapes/qwen3-14b --bpw 4.5 --floor attn_v=Q5_K",
    "quantrecipe fit model-BF16.gguf --size 5.2GiB --min-speed 40 -o mine.yaml",
    "quantrecipe fit model-BF16.gguf --kld 0.01 --text search.txt -o small.yaml",
    "quantrecipe fit model-BF16.gguf --like Q4_K_M --statistics grams --text search.txt -o mine.yaml",
)
@click.argument("model", type=FILE)
@file_option("-o", "--output", metavar="RECIPE", help="Where to write the recipe. [default: standard output]")
@click.option("--like", metavar="NAME", help="As many bytes as a preset (Q4_K_M), or as a recipe makes.")
@click.option(
    "--like-bytes",
    type=click.Choice(["tensors", "file", "without-tables"]),
    default="tensors",
    show_default=True,
    help="With --like: as many bytes of what. without-tables: of tables that tokens look up, and of all else, apart.",
)
@budget_options
@click.option(
    "--min-speed",
    type=click.FloatRange(0.0, min_open=True),
    metavar="TOKENS",
    help="At least so many tokens per second in answers, on this machine; `quantrecipe speed` measures it first.",
)
@click.option(
    "--perplexity",
    type=Percent(),
    metavar="+N%",
    help="The smallest file whose perplexity on --text is at most so much higher: +1%.",
)
@file_option("--imatrix", help="Importance matrix: losses are those of the outputs.")
@another_model_option
@statistics_option
@text_option(
    help="Search text: finds out by running the model which tensors matter, and which mix is best. May be given more "
    f"than once. {TEXT_GRAMMAR}",
)
@raw_option
@count_option(
    "--probes",
    default=DEFAULT_PROBES,
    help="With --text: passes that ask what matters, at most. A probe reads a quarter of the text.",
)
@count_option(
    "--evaluations",
    least=0,
    default=DEFAULT_EVALUATIONS,
    help="With --text: mixes that are tried on it, at most.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0.0, min_open=True),
    metavar="N",
    help="With --text: no more mixes are tried after so many minutes.",
)
@file_option(
    "--sensitivity",
    help="What `quantrecipe sensitivity` found, to go by; nothing is probed then, and with --text mixes are tried.",
)
@click.option("--prior", is_flag=True, help="Measure nothing: go by what is usual.")
@text_option(
    "--verify",
    "held_out",
    help="Held-out text: at the end the result and the best preset are made, run over it and compared. Repeatable.",
)
@engine_option
@executor_options
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
    like_bytes: LikeBytes,
    budget: Budget | None,
    min_speed: float | None,
    perplexity: float | None,
    imatrix: Path | None,
    another_model: bool,
    statistics: Path | None,
    texts: tuple[str, ...],
    raw: bool,
    probes: int,
    evaluations: int,
    minutes: float | None,
    sensitivity: Path | None,
    prior: bool,
    held_out: tuple[str, ...],
    engine: Path | None,
    executor: str | None,
    executor_options: tuple[tuple[str, str], ...],
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

    Say how large: --size, --bpw, --like, --vram, --ram or --active; or how good: --kld or --perplexity find the
    smallest file that stays within. Several limits hold together. Losses are measured on the model's weights (better
    with --imatrix). With --text the model is run over a text: first to find out how much each tensor matters, then with
    the best few mixes themselves, and the one that is measured best is the result.
    Without --text, what matters is taken as usual, and nothing is promised. The recipe names roles and layers, each
    with its reason, and plans to the types that were chosen. Where it isn't sure to lose less than a preset of
    llama.cpp, the recipe is that preset.

    With --executor several processes or machines probe and try mixes, each with the model in its memory; --threads is
    for what this process does. The recipe is the same.
    """
    from quantrecipe.cli.output_files import check_folder, check_output
    from quantrecipe.cli.progress import MeasureBar
    from quantrecipe.engine import require_engine
    from quantrecipe.fit import Request, fit
    from quantrecipe.fit.measured_choice import measured_choice, require_length, require_other_text
    from quantrecipe.fit.trial import hold_trial, settle
    from quantrecipe.fit.tried import Effort
    from quantrecipe.measure import Passes, Subject
    from quantrecipe.measure.encoded import Encoding
    from quantrecipe.model.open_model import open_model
    from quantrecipe.plan.importance import require_statistics_of
    from quantrecipe.texts import read_domains

    if budget is None and like is None and perplexity is None and min_speed is None:
        raise click.UsageError(
            "Say how large: --size, --bpw, --like, --vram, --ram or --active; how good: --kld; or how fast: "
            "--min-speed."
        )
    if perplexity is not None and not texts:
        raise click.UsageError("--perplexity is measured on a text: give it with --text.")
    if perplexity is not None and budget is not None and budget.kld is not None:
        raise click.UsageError("--perplexity and --kld exclude each other.")
    if sensitivity is not None and prior:
        raise click.UsageError("--sensitivity and --prior exclude each other.")
    if minutes is not None and not texts:
        raise click.UsageError("--minutes goes with --text.")
    check_executor(executor, executor_options)
    if executor is not None and not texts:
        raise click.UsageError("--executor goes with --text: it probes, and tries mixes.")
    if prior and texts:
        raise click.UsageError("--prior and --text exclude each other.")
    if output is not None and not force and output.exists():
        raise click.UsageError(f"{output} exists; --force replaces it.")
    check_output(output, force=force)
    if texts or held_out:
        check_folder(work_dir or Path(), option="--work-dir DIR")
    domains, held_out_domains = read_domains(texts, raw=raw), read_domains(held_out, raw=raw)
    registry = ctx.load_registry()
    opened = open_model(model, arch=arch, registry=registry)
    calibration = texts_of(ctx, domains, lambda: opened)
    unseen = texts_of(ctx, held_out_domains, lambda: opened)
    subject = Subject(
        model=opened,
        registry=registry,
        importance=importance_of(opened, imatrix, another_model=another_model),
        another_model=another_model,
    )
    wanted = budget_of(
        ctx,
        budget,
        like,
        like_bytes,
        subject,
        encoded=statistics is not None,
        allow_requantize=allow_requantize,
    )
    limit, quick = _speed(opened, min_speed, budget)
    wanted = replace(wanted, speed=limit)
    measures = bool(calibration) and opened.has_weights and evaluations > 0
    if perplexity is not None and not measures:
        raise click.UsageError("--perplexity tries mixes of the model itself: allow some with --evaluations.")
    goal = goal_of(wanted, perplexity) if measures else None
    if goal is not None:
        wanted = without_goal(wanted, goal)
    grams = grams_in(statistics)
    require_statistics_of(opened, grams)
    encoder = encoder_of(like, registry) if grams is not None else None
    request = Request(
        name=name or (output.stem if output is not None else model_stem(model)),
        budget=wanted,
        types=parts_of(types)
        if min_speed is None
        else _measured_types(registry, parts_of(types), target, quick),
        floors=tuple(floor_of(text) for text in floors),
        ties=tuple(parts_of(text) for text in ties),
        target=target,
        encoder=encoder,
        allow_requantize=allow_requantize,
    )
    if held_out and not opened.has_weights:
        raise click.UsageError("--verify needs the model itself, and this is a shape file.")
    work = work_dir or Path()
    runs = held_out or (texts and opened.has_weights)
    found = require_engine(engine) if runs else None  # before what takes long
    require_other_text(calibration, unseen)
    for some, option in ((calibration if evaluations else (), "--text"), (unseen, "--verify")):
        if some:
            require_length(some, option)
    passes = None
    if calibration and opened.has_weights:
        passes = Passes(
            texts=tuple(calibration),
            tokens=DEFAULT_TOKENS,
            threads=threads,
            engine=found,
            executor=found_executor(registry, executor, executor_options),
        )
    if sensitivity is not None or prior:
        known = sensitivity_in(sensitivity)
    else:
        encoding = None
        if encoder is not None and grams is not None:
            made_by = registry.encoder(encoder.name).with_options(encoder.options)
            encoding = Encoding(encoder=made_by, statistics=grams)
        known = measured_now(
            ctx, subject, passes, encoding, probes, threads, work, allow_requantize=allow_requantize
        )
    fitted = fit(
        opened,
        request,
        registry,
        importance=subject.importance,
        importance_of_another_model=another_model,
        sensitivity=known,
        statistics=grams,
    )
    if passes is not None and known is not None and evaluations:
        with MeasureBar(ctx.err) as progress:
            fitted = measured_choice(
                fitted,
                subject,
                passes,
                Effort(evaluations=evaluations, minutes=minutes),
                sensitivity=known,
                out=Path(f"{model_stem(model)}.evaluations.jsonl"),
                work=work,
                progress=progress,
                goal=goal,
            )
    if held_out:
        with ctx.err.status("trying it on the text beside the best preset"):
            trial = hold_trial(
                fitted,
                opened,
                registry,
                unseen,
                folder=work,
                tokens=_TRIAL_TOKENS,
                threads=threads,
                engine=found,
            )
        fitted = fitted if trial is None else settle(fitted, request, trial)
    if output is not None:
        write_text(output, fitted.text, force=force)
    said = "" if like is None else f"as many bytes as {like} has {_LIKE[like_bytes]}"
    _show(ctx, fitted, request.budget, said, output, as_json=as_json)


def _speed(
    model: Model, least: float | None, budget: Budget | None
) -> tuple[SpeedLimit | None, tuple[str, ...]]:
    """The limit of so many tokens per second, and the types whose speed is known here; no limit where none is asked."""
    if least is None:
        return None, ()
    from quantrecipe.allocate.limits import settings_of
    from quantrecipe.cli.planned.speeds import speed_limit

    vram = None if budget is None else budget.vram
    return speed_limit(model, least, None if vram is None else settings_of(vram))


def _measured_types(
    registry: Registry, patterns: tuple[str, ...], target: Target | None, quick: tuple[str, ...]
) -> tuple[str, ...]:
    """Of the types that would be chosen from, those whose speed is known here. PlanError where that is none."""
    from quantrecipe.errors import PlanError
    from quantrecipe.fit.offered_types import offered_types

    offered = offered_types(registry, patterns, target)
    if not (known := tuple(name for name in offered if name in quick)):
        what = f"--min-speed: of {', '.join(offered)} none was measured on this machine"
        raise PlanError(what, "`quantrecipe speed MODEL --types …` measures them")
    return known


def _show(
    ctx: Context, fitted: Fitted, budget: Budget, like: str, output: Path | None, *, as_json: bool
) -> None:
    """Without a file, the recipe goes to standard output, and what is said of it to standard error.

    like: what of which preset it has as many bytes as; "" where no preset was named
    """
    if as_json:
        from quantrecipe.cli.fit.fitted_table import fit_document

        ctx.print_json(fit_document(fitted))
        return
    from quantrecipe.cli.fit.fitted_table import render_fit

    console = ctx.console if output is not None else ctx.err
    console.print(render_fit(fitted))
    console.print(f"understood: {', '.join(part for part in (like, limits_text(budget)) if part)}")
    if output is None:
        click.echo(fitted.text, nl=False)
    else:
        console.print(f"wrote {printable(str(output))}")
