"""quantrecipe store verify: every tensor of a store, compared with its hash."""

from __future__ import annotations

from pathlib import Path

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_problems
from quantrecipe.cli.options.shared import json_option
from quantrecipe.cli.store.folder import existing_store, store_argument
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.errors import OutputError, Problem

__all__ = ["command"]


@subcommand("verify", "quantrecipe store verify ~/quantrecipe-store", "quantrecipe store verify --json")
@store_argument
@json_option
@pass_context
def command(ctx: Context, folder: Path | None, as_json: bool) -> None:
    """Read all of the store in FOLDER, and compare every tensor with its hash. The exit status is 1 if one is damaged.

    A run that wants a damaged tensor makes it again and replaces it, so a damaged store does no harm. Its disk may.
    """
    from quantrecipe.cli.units import bytes_text, counted
    from quantrecipe.output.store.upkeep import damage_of, entries_of

    store = existing_store(folder)
    count = size = 0
    damaged = []
    for found in entries_of(store):
        count, size = count + 1, size + found.size
        if damage := damage_of(found):
            damaged.append((found.path, damage))
    if as_json:
        said = [{"path": str(path), "damage": damage} for path, damage in damaged]
        ctx.print_json({"folder": str(store.folder), "entries": count, "size": size, "damaged": said})
    else:
        problems = [
            Problem(what=damage, remedy="remove it; a run that wants it makes it again", file=path)
            for path, damage in damaged
        ]
        if problems:
            print_problems(ctx.err, OutputError(problems))
        ctx.say(f"{counted(count, 'tensor')}, {bytes_text(size)}: {len(damaged) or 'none'} damaged")
    if damaged:
        raise click.exceptions.Exit(1)
