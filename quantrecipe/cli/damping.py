"""quantrecipe damping: the damping of error feedback that loses least on a search text, for groups of tensors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.named_recipes import load_recipes
from quantrecipe.cli.options.amounts import count_option
from quantrecipe.cli.options.paths import MODEL, RECIPE, file_option, folder_option
from quantrecipe.cli.options.shared import (
    another_model_option,
    arch_option,
    force_option,
    json_option,
    llama_options,
    requantize_option,
    statistics_option,
)
from quantrecipe.cli.options.texts import TEXT_GRAMMAR, raw_option, text_option
from quantrecipe.cli.output_files import check_folder, check_output, write_text
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.cli.tables import Table
    from quantrecipe.refine import DampedGroup, DampingTried

__all__ = ["command"]


@subcommand(
    "damping",
    "quantrecipe damping mine.yaml model.gguf --statistics grams --text search.txt -o damped.yaml",
    "quantrecipe damping mine.yaml hf-folder --statistics grams --text t.txt --try 0.1 --try 0.3",
)
@click.argument("recipe", type=RECIPE)
@click.argument("model", type=MODEL)
@statistics_option
@text_option(
    help="Search text, which gave no statistics and is none of those that you will evaluate on; may be given more than "
    f"once. {TEXT_GRAMMAR}"
)
@raw_option
@file_option("-o", "--output", help="The recipe. [default: RECIPE-damped.yaml in the current folder]")
@click.option(
    "--try",
    "dampings",
    type=click.FloatRange(0, 1),
    multiple=True,
    metavar="DAMPING",
    help="A damping to try; may be given more than once. [default: 0.01, 0.03, 0.1, 0.3, 1]",
)
@count_option("--chunks", help="The first N contexts of each text. [default: all]")
@file_option("--imatrix", help="Importance matrix, GGUF or .dat; instead of the recipe's.")
@another_model_option
@requantize_option
@arch_option
@llama_options(threads="Threads that quantize, and those of llama.cpp.")
@folder_option(
    "--work-dir",
    help="Where temporary files go: what the model says of the text; a folder's BF16 file. [default: beside OUTPUT]",
)
@force_option
@json_option
@pass_context
def command(
    ctx: Context,
    /,
    recipe: str,
    model: Path,
    statistics: Path | None,
    texts: tuple[str, ...],
    raw: bool,
    output: Path | None,
    dampings: tuple[float, ...],
    chunks: int | None,
    imatrix: Path | None,
    another_model: bool,
    allow_requantize: bool,
    arch: str | None,
    threads: int | None,
    gpu_layers: int | None,
    engine: Path | None,
    work_dir: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Find by measurement how much to damp the statistics of error feedback, and write a recipe that says so.

    The recipe says `encoder: feedback` without a number for the damping. Attention, experts and feed-forward get theirs
    one after the other: each is quantized with each damping in the open model, and the model is run over the text. What
    isn't surely better than the damping that is predicted is left to the prediction.
    """
    from quantrecipe.cli.imatrix.runnable import runnable
    from quantrecipe.cli.options.texts import texts_of
    from quantrecipe.cli.planned.inputs import PlanInputs
    from quantrecipe.cli.tables import Paragraph
    from quantrecipe.engine import require_engine
    from quantrecipe.model.open_model import open_model
    from quantrecipe.plan.statistics import require_statistics
    from quantrecipe.refine import DAMPINGS, damped_recipe, find_dampings, groups_of
    from quantrecipe.texts import read_domains

    if not texts:
        raise click.UsageError("Say with --text what the model is to be run over.")
    inputs = PlanInputs(
        registry=ctx.load_registry(),
        imatrix=imatrix,
        another_model=another_model,
        allow_requantize=allow_requantize,
        statistics=statistics,
    )
    registry = inputs.registry
    (loaded,) = load_recipes(ctx, [recipe], registry)
    opened = open_model(model, arch=arch, registry=registry)
    opened.require_weights("give the model itself")
    out = output or Path(f"{loaded.name.rsplit('/', 1)[-1]}-damped.yaml")
    check_output(out, force=force)
    check_folder(work_dir or out.parent, option="--work-dir DIR")
    plan = inputs.plan(loaded, opened)
    require_statistics(plan)
    groups_of(plan)
    engine_ = require_engine(engine)
    read = texts_of(ctx, read_domains(texts, raw=raw), lambda: opened)

    def tell(group: DampedGroup, tried: DampingTried) -> None:
        what = f"{group.kind}, {group.type}, damping {tried.damping:g}: mean KLD {tried.kld_mean:.3g}"
        ctx.err.print(Paragraph(f"{what} ({100 * tried.change:+.1f} %)", indent=2))

    with runnable(ctx, opened, registry, work_dir or out.parent, keep=False, threads=threads) as path:
        groups = find_dampings(
            plan,
            path,
            read,
            folder=work_dir or out.parent,
            registry=registry,
            dampings=dampings or DAMPINGS,
            chunks=chunks,
            told=tell,
            threads=threads,
            gpu_layers=gpu_layers,
            engine=engine_,
            log=ctx.engine_log,
        )
    parent = Path(os.path.relpath(recipe, out.parent)).as_posix() if Path(recipe).exists() else recipe
    write_text(out, damped_recipe(parent, out.stem, plan, groups), force=force)
    if as_json:
        ctx.print_json({"recipe": out, "groups": groups})
        return
    ctx.console.print(_table(groups))
    ctx.console.print(Paragraph(f"wrote {out}"))


def _table(groups: list[DampedGroup]) -> Table:
    from quantrecipe.cli.tables import Kind, Table, numbers

    rows = [
        (
            group.kind,
            group.type,
            ("predicted" if tried.damping is None else f"{tried.damping:g}")
            + (" *" if tried.damping == group.damping else ""),
            f"{tried.kld_mean:.3g}",
            "" if tried.damping is None else f"{100 * tried.change:+.1f} ± {100 * tried.error:.1f} %",
        )
        for group in groups
        for tried in group.tried
    ]
    columns: dict[str, Kind] = {"tensors": "word", "type": "word", "damping": "word"}
    return Table(columns | numbers("mean KLD", "beside predicted"), rows)
