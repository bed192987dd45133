"""quantrecipe store list: the tensors that are in a store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.options.shared import json_option
from quantrecipe.cli.store.folder import existing_store, store_argument
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from rich.console import RenderableType

    from quantrecipe.output.store.upkeep import Found

__all__ = ["command"]


@subcommand(
    "list",
    "quantrecipe store list ~/quantrecipe-store",
    "quantrecipe store list ~/quantrecipe-store --all",
    "quantrecipe store list --json",
)
@store_argument
@click.option("--all", "all_", is_flag=True, help="A line for each tensor, in place of one for each type.")
@json_option
@pass_context
def command(ctx: Context, folder: Path | None, all_: bool, as_json: bool) -> None:
    """Show what is in the store in FOLDER: how many tensors of each type, their size, when they were used last.

    A tensor has the name that it had in the run that added it. Others with another name may be the same.
    """
    from quantrecipe.output.store.upkeep import entries_of

    store = existing_store(folder)
    found = list(entries_of(store))
    if as_json:
        ctx.print_json({"folder": str(store.folder), "size": sum(it.size for it in found), "entries": found})
        return
    ctx.console.print(_entries(found) if all_ else _types(found))


def _entries(found: list[Found]) -> RenderableType:
    from quantrecipe.cli.errors import printable
    from quantrecipe.cli.tables import Table, numbers
    from quantrecipe.cli.units import bytes_text, shape_text

    rows = [
        (
            "not a whole entry" if it.facts is None else printable(it.facts.tensor),
            "" if it.facts is None else shape_text(it.facts.shape),
            "" if it.facts is None else printable(it.facts.type),
            bytes_text(it.size),
            _day(it.used),
        )
        for it in sorted(found, key=lambda it: it.used, reverse=True)
    ]
    return Table({"tensor": "name", "shape": "word", "type": "word", **numbers("size"), "used": "word"}, rows)


def _types(found: list[Found]) -> RenderableType:
    from quantrecipe.cli.errors import printable
    from quantrecipe.cli.tables import Table, numbers
    from quantrecipe.cli.units import bytes_text

    types: dict[str, list[Found]] = {}
    for it in found:
        types.setdefault("not a whole entry" if it.facts is None else it.facts.type, []).append(it)
    rows = [
        (
            printable(name),
            str(len(members)),
            bytes_text(sum(it.size for it in members)),
            _day(max(it.used for it in members)),
        )
        for name, members in sorted(types.items())
    ]
    rows.append(("all", str(len(found)), bytes_text(sum(it.size for it in found)), ""))
    return Table({"type": "name", **numbers("tensors", "size"), "used": "word"}, rows)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))
