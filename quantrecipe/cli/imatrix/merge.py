"""quantrecipe imatrix merge: matrices of one model, added up."""

from __future__ import annotations

from pathlib import Path

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.imatrix.output import (
    check_matrix,
    chunk_size_option,
    force_option,
    layout_option,
    write_matrix,
)
from quantrecipe.cli.options.paths import FILE
from quantrecipe.cli.options.shared import another_model_option
from quantrecipe.cli.subcommand import subcommand

__all__ = ["command"]


def _weights(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Reads the weights: numbers with commas between them."""
    if value is None:
        return None
    try:
        return tuple(float(number) for number in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 2,1") from None


@subcommand(
    "merge",
    "quantrecipe imatrix merge both.gguf code.gguf prose.gguf",
    "quantrecipe imatrix merge both.gguf code.gguf prose.gguf --weights 2,1",
)
@click.argument("output", metavar="OUT", type=FILE)
@click.argument("sources", metavar="IN IN…", nargs=-1, required=True, type=FILE)
@click.option(
    "--weights",
    callback=_weights,
    metavar="N,N…",
    help="How many times each IN counts; ratios such as 0.7,0.3 are brought to whole numbers. [default: once]",
)
@layout_option
@chunk_size_option
@another_model_option
@force_option
@pass_context
def command(
    ctx: Context,
    output: Path,
    sources: tuple[Path, ...],
    weights: tuple[float, ...] | None,
    layout: str | None,
    chunk_size: int | None,
    another_model: bool,
    force: bool,
) -> None:
    """Add up importance matrices of one model, and write the sum to OUT.

    Sums and counts are added, so that each IN counts by the tokens that it was measured on, times its weight.
    Without weights the bytes are those of llama-imatrix with several --in-file; only what quantrecipe itself wrote of
    models and texts is added up, too. Matrices that say they are of different models are refused.
    """
    from quantrecipe.importance.merge import merged
    from quantrecipe.importance.read_importance import read_importance

    if len(sources) < 2:
        raise click.UsageError("Give two matrices or more after OUT.")
    if weights is not None and len(weights) != len(sources):
        raise click.UsageError(f"There are {len(weights)} weights for {len(sources)} matrices.")
    check_matrix(output, layout, force=force)
    matrices = [read_importance(source) for source in sources]
    measurement = merged(matrices, weights=weights or (), chunk_size=chunk_size, other_models=another_model)
    write_matrix(ctx, output, measurement, layout, force)
    if any(matrix.fingerprint for matrix in matrices):
        silent = sum(not matrix.fingerprint for matrix in matrices)
        if silent:
            ctx.say(
                f"it doesn't say which model it is of, since {silent} of {len(matrices)} files don't either"
            )
        elif measurement.provenance is None or not measurement.provenance.fingerprint:
            ctx.say("it doesn't say which model it is of, since the files are of several")
