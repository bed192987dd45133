"""quantrecipe lock: freeze what a recipe makes of a model, to be reviewed and kept under version control."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.options.paths import MODEL, RECIPE, file_option
from quantrecipe.cli.output_files import check_output, write_text
from quantrecipe.cli.planned.planning import PlanOptions, build_plans, plan_options, warn_of_running
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.errors import OutputError

if TYPE_CHECKING:
    from quantrecipe.plan.review.lock import Lock

__all__ = ["command"]


@subcommand(
    "lock",
    "quantrecipe lock recipes/mine.yaml model.safetensors -o mine.lock",
    "quantrecipe apply recipes/mine.yaml model.safetensors --locked mine.lock",
    "quantrecipe diff main:mine.lock mine.lock",
)
@click.argument("recipe", type=RECIPE)
@click.argument("model", type=MODEL)
@file_option("-o", "--output", help="Where to write. [default: standard output]")
@plan_options
@click.option("--force", is_flag=True, help="Replace FILE if it is something else than a lock.")
@pass_context
def command(
    ctx: Context, /, recipe: str, model: Path, output: Path | None, force: bool, **options: Any
) -> None:
    """Freeze what RECIPE makes of MODEL: the type of each tensor, and the hashes and versions that it depends on.

    The lock is text, sorted, and the same everywhere. `plan --locked` and `apply --locked` then refuse whatever
    differs. A lock that exists is written anew, and what changed in it is shown.
    """
    from quantrecipe.plan.review.lock import compare_locks, make_lock
    from quantrecipe.plan.review.lock_file import is_lock, lock_text, read_lock

    check_output(output, force=True)  # a lock that is there is compared, and written anew
    wanted = PlanOptions(**options)
    (plan,), registry = build_plans(ctx, [recipe], model, wanted)
    warn_of_running(ctx, [plan], wanted)
    lock = make_lock(plan, registry)
    text = lock_text(lock)
    if output is None:
        click.echo(text, nl=False)
        return
    old: Lock | None = None
    if os.path.lexists(output):
        if is_lock(str(output)):
            old = _readable(read_lock, output)
        elif not force:
            raise OutputError(f"{output} exists and is no lock", "name another file, or say --force")
    write_text(output, text, force=True)
    name = printable(str(output))
    if old is None:
        ctx.say(f"wrote {name}: {len(lock.tensors)} tensors, {plan.nbytes:,} bytes")
    elif changes := compare_locks(old, lock):
        ctx.say(f"{name} has changed:")
        for change in changes:
            ctx.say(f"  {printable(change)}", indent=4)
    else:
        ctx.say(f"{name} is as it was")


def _readable(read: Any, path: Path) -> Lock | None:
    """The lock that is there, or None where it is damaged: it is written anew."""
    from quantrecipe.errors import PlanError

    try:
        lock: Lock = read(path)
    except PlanError:
        return None
    return lock
