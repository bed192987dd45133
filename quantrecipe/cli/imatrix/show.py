"""quantrecipe imatrix show: what each tensor's importance is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.options.paths import FILE, file_option
from quantrecipe.cli.options.shared import json_option
from quantrecipe.cli.output_files import write_file
from quantrecipe.cli.pictures.figure import check_picture, drawn
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.plain_data import fields_of

if TYPE_CHECKING:
    from quantrecipe.importance.matrix import Importance
    from quantrecipe.importance.statistics import LayerStatistics, TensorStatistics

__all__ = ["command"]


@subcommand(
    "show",
    "quantrecipe imatrix show imatrix.gguf",
    "quantrecipe imatrix show imatrix.gguf --all",
    "quantrecipe imatrix show imatrix.gguf --picture imatrix.svg",
    "quantrecipe imatrix show grams",
)
@click.argument("file", type=FILE)
@click.option("--all", "all_", is_flag=True, help="Every tensor and every layer on a line of its own.")
@file_option(
    "--picture",
    metavar="OUT",
    help="Draw the activation energy by layer and role; OUT ends with .svg or .png.",
)
@click.option("--force", is_flag=True, help="Replace the picture if it exists.")
@json_option
@pass_context
def command(ctx: Context, file: Path, all_: bool, picture: Path | None, force: bool, as_json: bool) -> None:
    """Show the statistics of `llama-imatrix --show-statistics` for the importance matrix FILE, GGUF or .dat.

    Σ(Act²) is the sum of the mean squares of a tensor's inputs, entropy says how evenly it is spread over them (in
    per cent of the most that it could be), ZD how many inputs are more than one deviation above the mean, CosSim
    how much they are like those of the layer before. "seen" counts the experts that calibration reached. Of several
    layers, the lowest and the highest number are shown. Of a matrix that quantrecipe made, the model and the texts that
    it is of come first.

    FILE may be a folder of Gram matrices, as `imatrix compute --gram` writes it: its inputs, their columns and tokens,
    and how many of the matrices are singular.
    """
    from quantrecipe.importance.read_importance import read_importance
    from quantrecipe.importance.statistics import by_layer, statistics

    if file.is_dir():
        if picture is not None:
            raise click.UsageError("There is no picture of Gram matrices.")
        _show_grams(ctx, file, all_=all_, as_json=as_json)
        return
    kind = check_picture(picture, force=force, option="--picture OUT")
    matrix = read_importance(file)
    tensors = statistics(matrix)
    layers = by_layer(tensors)
    if as_json:
        ctx.print_json(
            {
                "file": matrix.path,
                **fields_of(matrix, "layout", "digest", "datasets", "chunks", "chunk_size"),
                "other_tensors": matrix.others,
                "provenance": matrix.provenance,
                "tensors": tensors,
                "layers": layers,
            }
        )
    else:
        _show(ctx, matrix, tensors, layers, all_=all_)
    if picture is None:
        return

    def draw_it() -> None:
        from quantrecipe.cli.imatrix.energy_picture import draw

        data = draw(tensors, title=matrix.label, kind=kind)
        write_file(picture, len(data), [data], force=force)

    if not drawn(ctx, draw_it):
        raise click.exceptions.Exit(1)
    if not as_json:
        ctx.console.print(printable(f"wrote {picture}"))


def _show_grams(ctx: Context, folder: Path, *, all_: bool, as_json: bool) -> None:
    from quantrecipe.calibration.gram import read_gram
    from quantrecipe.cli.imatrix.gram import gram_document, render_grams

    grams = read_gram(folder)
    if as_json:
        ctx.print_json(gram_document(grams))
    else:
        ctx.console.print(render_grams(grams, all_=all_))


def _show(
    ctx: Context,
    matrix: Importance,
    tensors: tuple[TensorStatistics, ...],
    layers: tuple[LayerStatistics, ...],
    *,
    all_: bool,
) -> None:
    from quantrecipe.cli.imatrix.statistics_table import (
        render_groups,
        render_heading,
        render_provenance,
        render_tensors,
    )

    ctx.console.print(render_heading(matrix))
    if matrix.provenance is not None:
        ctx.console.print(render_provenance(matrix.provenance))
    calls = matrix.layout == "dat"
    if all_:
        ctx.console.print(render_tensors(tensors, layers, calls=calls))
    else:
        ctx.console.print(render_groups(tensors, layers, calls=calls))
