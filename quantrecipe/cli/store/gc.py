"""quantrecipe store gc: a store is made smaller."""

from __future__ import annotations

from pathlib import Path

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.options.amounts import FileSize
from quantrecipe.cli.options.shared import json_option
from quantrecipe.cli.store.folder import existing_store, store_argument
from quantrecipe.cli.subcommand import subcommand

__all__ = ["command"]


@subcommand(
    "gc",
    "quantrecipe store gc ~/quantrecipe-store --max-size 200GB",
    "quantrecipe store gc ~/quantrecipe-store --max-size 1.5TB --dry-run",
    "quantrecipe store gc --max-size 500GB --json",
)
@store_argument
@click.option(
    "--max-size",
    required=True,
    metavar="SIZE",
    type=FileSize(),
    help="Bytes of all tensors that stay: 200GB, 500M; 4.5GiB is in powers of two.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@json_option
@pass_context
def command(ctx: Context, folder: Path | None, max_size: int, dry_run: bool, as_json: bool) -> None:
    """Remove from the store in FOLDER what wasn't used for the longest time, until the rest has SIZE.

    What killed runs left unfinished a day ago or more is removed, too. Runs that use the store meanwhile go on.
    """
    from quantrecipe.cli.units import bytes_text, counted
    from quantrecipe.output.store.upkeep import shrink

    store = existing_store(folder)
    removed = shrink(store, max_size, dry_run=dry_run)
    if as_json:
        ctx.print_json({"folder": str(store.folder), "dry_run": dry_run, "removed": removed})
        return
    what = counted(removed.entries, "tensor")
    if removed.unfinished:
        what += f" and {counted(removed.unfinished, 'unfinished file')}"
    verb = "would be removed" if dry_run else "removed"
    stays = f"{counted(removed.kept, 'tensor')} with {bytes_text(removed.kept_bytes)}"
    ctx.say(f"{what} with {bytes_text(removed.nbytes)} {verb}; {stays} {'would stay' if dry_run else 'stay'}")
