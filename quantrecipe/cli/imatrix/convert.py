"""quantrecipe imatrix convert: an importance matrix in the other layout."""

from __future__ import annotations

from pathlib import Path

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.imatrix.output import (
    check_matrix,
    chunk_size_option,
    force_option,
    layout_option,
    write_matrix,
)
from quantrecipe.cli.options.paths import FILE
from quantrecipe.cli.subcommand import subcommand

__all__ = ["command"]


@subcommand(
    "convert",
    "quantrecipe imatrix convert imatrix.dat imatrix.gguf",
    "quantrecipe imatrix convert imatrix.gguf imatrix.dat",
)
@click.argument("source", metavar="IN", type=FILE)
@click.argument("output", metavar="OUT", type=FILE)
@layout_option
@chunk_size_option
@force_option
@pass_context
def command(
    ctx: Context, source: Path, output: Path, layout: str | None, chunk_size: int | None, force: bool
) -> None:
    """Write the importance matrix IN as OUT, in the layout that OUT's name ends with: .gguf or .dat.

    The bytes are llama-imatrix's own. A .dat file says less than a GGUF; what is lost is listed. Importance itself
    isn't lost either way.
    """
    from quantrecipe.importance.measurement import measured
    from quantrecipe.importance.read_importance import read_importance

    check_matrix(output, layout, force=force)
    matrix = read_importance(source)
    write_matrix(ctx, output, measured(matrix, chunk_size=chunk_size), layout, force)
    if matrix.others:
        shown = ", ".join(matrix.others[:3]) + (", …" if len(matrix.others) > 3 else "")
        ctx.say(f"not in it, as their meaning isn't known: {printable(shown)}")
