"""quantrecipe speed: how fast each type runs on this machine, measured with files of a model's own shapes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_warning, printable
from quantrecipe.cli.options.amounts import count_option
from quantrecipe.cli.options.paths import MODEL, folder_option
from quantrecipe.cli.options.shared import arch_option, engine_option, json_option, threads_option
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.measure.speed import Measured
    from quantrecipe.registry import Registry

__all__ = ["command"]


@subcommand(
    "speed",
    "quantrecipe speed model-BF16.gguf",
    "quantrecipe speed ./Qwen3-14B --types 'Q?_K,IQ*' --minutes 10",
    "quantrecipe speed shapes/meta-llama-3.1-8b-instruct --gpu-layers 0 --threads 8",
    "quantrecipe speed --list",
    "quantrecipe speed --remove 3f9a01c2",
)
@click.argument("model", type=MODEL, required=False)
@click.option(
    "--types",
    metavar="NAMES",
    help="Types to measure, with commas between; globs are fine. [default: what runs well on some device]",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0.1, 600),
    default=5.0,
    show_default=True,
    metavar="N",
    help="After which no further file is timed.",
)
@count_option(
    "--gpu-layers",
    help="0: measure the processor; any other number: with all layers on the GPU. "
    "[default: both, if llama.cpp finds a GPU]",
    least=0,
)
@threads_option
@engine_option
@folder_option(
    "--work-dir", help="Where the files are made, one at a time. [default: the system's folder for them]"
)
@arch_option
@click.option("--list", "listing", is_flag=True, help="List what was measured on this machine.")
@click.option("--remove", metavar="KEY", help="Remove a measurement from the list; `all` removes every one.")
@json_option
@pass_context
def command(
    ctx: Context,
    /,
    model: Path | None,
    types: str | None,
    minutes: float,
    gpu_layers: int | None,
    threads: int | None,
    engine: Path | None,
    work_dir: Path | None,
    arch: str | None,
    listing: bool,
    remove: str | None,
    as_json: bool,
) -> None:
    """Measure how fast each type runs on this machine, in files of a few layers of MODEL's shapes.

    The files have random weights and are made from headers alone, so that MODEL may be larger than this machine's
    memory. llama.cpp runs them. What is found is kept for this machine; `advise`, `plan` and `diff` then say how many
    tokens per second a mix gives here, and `fit --min-speed` keeps a limit.
    """
    from quantrecipe.cli.speed.speed_table import render_profiles, render_removed
    from quantrecipe.speed.kept import forget, kept_profiles

    if (model is not None) + listing + (remove is not None) != 1:
        raise click.UsageError("name a MODEL to measure, or say --list, or --remove KEY.")
    if remove is not None:
        gone = forget(remove)
        if as_json:
            ctx.print_json({"removed": gone})
        else:
            ctx.console.print(render_removed(gone))
    elif model is None:
        found = kept_profiles()
        if as_json:
            ctx.print_json({"measurements": found})
        else:
            ctx.console.print(render_profiles(found))
    else:
        _measure(ctx, model, types, minutes, gpu_layers, threads, engine, work_dir, arch, as_json=as_json)


def _measure(
    ctx: Context,
    path: Path,
    types: str | None,
    minutes: float,
    gpu_layers: int | None,
    threads: int | None,
    engine: Path | None,
    work_dir: Path | None,
    arch: str | None,
    *,
    as_json: bool,
) -> None:
    from quantrecipe.cli.output_files import check_folder
    from quantrecipe.cli.progress import SpeedBar
    from quantrecipe.cli.speed.speed_table import render_measured, speed_document
    from quantrecipe.engine import engine_facts, find_engine
    from quantrecipe.measure.speed import Way, measure_speed
    from quantrecipe.memory.machine import processor_name
    from quantrecipe.model.open_model import open_model
    from quantrecipe.speed.kept import remember

    registry = ctx.load_registry()
    opened = open_model(path, arch=arch, registry=registry)
    wanted = _types(registry, types)
    if work_dir is not None:
        check_folder(work_dir, option="--work-dir DIR")
    facts = engine_facts(find_engine(engine))
    has_gpu = any(not device.is_cpu for device in facts.devices)
    places = [False, *([True] if has_gpu else [])] if gpu_layers is None else [gpu_layers > 0]
    found: list[Measured] = []
    for gpu in places:
        way = Way(
            engine=facts.engine,
            facts=facts,
            processor=processor_name(),
            gpu=gpu,
            threads=threads,
            log=ctx.engine_log,
        )
        seconds = 60 * minutes / len(places)
        with SpeedBar(ctx.err, seconds) as progress:
            measured = measure_speed(
                opened,
                wanted,
                registry,
                way,
                name=str(path),
                seconds=seconds,
                folder=work_dir,
                progress=progress,
            )
        for type_, why in measured.left_out.items():
            print_warning(ctx.err, f"{type_} isn't measured: {printable(why)}")
        remember(measured.profile)
        found.append(measured)
    if as_json:
        ctx.print_json(speed_document(found, opened, registry))
    else:
        ctx.console.print(render_measured(found, opened, registry))


def _types(registry: Registry, names: str | None) -> tuple[str, ...]:
    from quantrecipe.fit.offered_types import offered_types

    patterns = [part.strip() for part in (names or "").split(",") if part.strip()]
    found = offered_types(registry, patterns, None)
    # What most files have comes first: where the time is too short, the others are left out.
    common = ("Q4_K", "Q6_K", "Q5_K", "Q3_K", "Q8_0", "IQ4_XS", "Q2_K", "IQ3_S", "IQ3_XXS")
    return tuple(sorted(found, key=lambda name: common.index(name) if name in common else len(common)))
