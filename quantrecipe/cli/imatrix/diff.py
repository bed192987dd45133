"""quantrecipe imatrix diff: how much an importance matrix differs from another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.options.paths import FILE
from quantrecipe.cli.options.shared import json_option
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.errors import ImportanceError
from quantrecipe.wording import some_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from quantrecipe.importance.compare import Comparison, TensorChange

__all__ = ["command"]

# Tensors that fit on a screen.
_SHOWN = 20
# Tensors of one matrix alone that are named.
_NAMES = 6


@subcommand(
    "diff",
    "quantrecipe imatrix diff old.gguf new.gguf",
    "quantrecipe imatrix diff imatrix.gguf imatrix.dat --threshold 0.00001",
)
@click.argument("first", metavar="A", type=FILE)
@click.argument("second", metavar="B", type=FILE)
@click.option(
    "--threshold",
    type=click.FloatRange(min=0),
    metavar="X",
    help="Exit with 1 if a tensor's change is larger than X, or if only one of both has it.",
)
@click.option("--all", "all_", is_flag=True, help=f"Every tensor, not only the {_SHOWN} that changed most.")
@json_option
@pass_context
def command(
    ctx: Context, first: Path, second: Path, threshold: float | None, all_: bool, as_json: bool
) -> None:
    """Compare the importance matrices A and B of one model, the most changed tensors first.

    Change is the length of the difference over A's length: 0.1 is a tenth. The cosine doesn't see the size, the
    rank correlation only the order of the inputs. Energy is B's over A's. Experts that only one has seen don't
    take part.
    """
    from quantrecipe.importance.compare import compare
    from quantrecipe.importance.read_importance import read_importance

    found = compare(read_importance(first), read_importance(second))
    if as_json:
        ctx.print_json(found)
    else:
        ctx.console.print(_render(found, found.changes if all_ else found.changes[:_SHOWN]))
    if threshold is not None:
        _judge(found, threshold)


def _judge(found: Comparison, threshold: float) -> None:
    beyond, alone = found.beyond(threshold), len(found.only_first) + len(found.only_second)
    if beyond or alone:
        of = f"{len(beyond)} of {len(found.changes)} tensors changed by more than {threshold:g}"
        only = f", and {alone} {'is' if alone == 1 else 'are'} in one matrix only" if alone else ""
        raise ImportanceError(f"{of}{only}", file=found.second.path)


def _render(found: Comparison, changes: tuple[TensorChange, ...]) -> RenderableType:
    from rich.console import Group

    from quantrecipe.cli.tables import Kind, Paragraph, Table, numbers

    unpaired = any(item.unpaired for item in changes)
    rows = []
    for item in changes:
        figures = (item.change, item.cosine, item.rank, item.energy)
        cells = ["–" if number is None else f"{number:.4f}" for number in figures]
        rows.append((item.name, *cells, *([str(item.unpaired)] if unpaired else [])))
    columns: dict[str, Kind] = {"tensor": "name", **numbers("change", "cosine", "rank correlation", "energy")}
    table = Table(columns | (numbers("unpaired experts") if unpaired else {}), rows)
    parts: list[RenderableType] = [_summary(found), table]
    if found.models_differ:
        parts.insert(0, Paragraph("the files say that they are of different models", "yellow"))
    if more := len(found.changes) - len(changes):
        parts.append(Paragraph(f"and {more} that changed less; --all shows them", "dim"))
    for path, names in ((found.first.path, found.only_first), (found.second.path, found.only_second)):
        if names:
            parts.append(Paragraph(printable(f"only in {path}: {some_of(names, _NAMES)}"), "yellow"))
    return Group(*parts)


def _summary(found: Comparison) -> RenderableType:
    from quantrecipe.cli.tables import Paragraph

    if found.first.digest == found.second.digest:
        return Paragraph("the same importance", "green")
    known = sorted(item.change for item in found.changes if item.change is not None)
    middle = f", half of all by more than {known[(len(known) - 1) // 2]:.2g}" if known else ""
    changed = sum(item.change != 0 for item in found.changes)
    return Paragraph(f"{changed} of {len(found.changes)} tensors changed{middle if changed else ''}")
