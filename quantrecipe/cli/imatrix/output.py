"""What the commands that write importance matrices have in common: the file, and the lines on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.output_files import check_output, write_file
from quantrecipe.cli.units import bytes_text

if TYPE_CHECKING:
    from quantrecipe.importance.measurement import EncodedImportance, Measurement

__all__ = [
    "check_matrix",
    "chunk_size_option",
    "force_option",
    "layout_option",
    "say_matrix",
    "write_encoded",
    "write_matrix",
]

layout_option = click.option(
    "--to",
    "layout",
    type=click.Choice(["gguf", "dat"]),
    help="Layout of OUT. [default: what its name ends with]",
)

chunk_size_option = click.option(
    "--chunk-size",
    type=click.IntRange(1, 2**31 - 1),
    metavar="TOKENS",
    help="Tokens in a chunk, as llama-imatrix's -c. [default: what the GGUF says, else 512]",
)

force_option = click.option("--force", is_flag=True, help="Replace OUT if it exists.")


def check_matrix(path: Path, layout: str | None, *, force: bool) -> None:
    """UsageError or OutputError, before anything is read, where the matrix couldn't be written to `path`."""
    _layout(path, layout)
    check_output(path, force=force, option="OUT", gguf=True)


def write_matrix(
    ctx: Context,
    path: Path,
    measurement: Measurement,
    layout: str | None,
    force: bool,
    *,
    quiet: bool = False,
) -> None:
    """Write a measurement, and say what was written and what was lost; that goes to stderr if `quiet`."""
    say_matrix(ctx, path, measurement, write_encoded(path, measurement, layout, force), quiet=quiet)


def write_encoded(path: Path, measurement: Measurement, layout: str | None, force: bool) -> EncodedImportance:
    """Write a measurement, and say nothing: what is said may not be heard, where a pipe was closed."""
    from quantrecipe.importance.to_dat import encode_dat
    from quantrecipe.importance.to_gguf import encode_gguf

    encoded = (encode_dat if _layout(path, layout) == "dat" else encode_gguf)(measurement)
    write_file(path, encoded.nbytes, encoded.pieces(), force=force)
    return encoded


def say_matrix(
    ctx: Context, path: Path, measurement: Measurement, encoded: EncodedImportance, *, quiet: bool
) -> None:
    """Say what was written, and what the layout has no place for; on stderr if `quiet`."""
    entries, chunks = len(measurement.tensors), measurement.chunks
    say = ctx.err.print if quiet else ctx.say
    say(
        f"{printable(str(path))}: {entries} entries, {chunks} chunks of {measurement.chunk_size}, "
        f"{bytes_text(encoded.nbytes)}"
    )
    for what in encoded.lost:
        say(f"not in it, as a .dat file has no place for it: {printable(what)}")


def _layout(path: Path, layout: str | None) -> str:
    if layout is None:
        layout = path.suffix.lower().removeprefix(".")
        if layout not in ("gguf", "dat"):
            raise click.UsageError(f"Say with --to gguf or --to dat what {path} is to be.")
    return layout
