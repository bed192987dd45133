"""`--locked FILE`: do what was frozen, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from quantrecipe.cli.options.paths import file_option

if TYPE_CHECKING:
    from quantrecipe.plan.plan import Plan
    from quantrecipe.registry import Registry

__all__ = ["locked_option", "require_locked"]

F = TypeVar("F", bound=Callable[..., Any])


def locked_option(command: F) -> F:
    """Add `--locked`."""
    return file_option(
        "--locked", help="Refuse any plan but the one that `quantrecipe lock` froze, and say what differs."
    )(command)


def require_locked(locked: Path | None, plans: Sequence[Plan], registry: Registry) -> None:
    """PlanError where the plan isn't the locked one."""
    if locked is None:
        return
    from quantrecipe.plan.lock import require_lock
    from quantrecipe.plan.lock_file import read_lock

    if len(plans) > 1:
        raise click.UsageError("--locked is for one recipe: run several, one after the other.")
    require_lock(read_lock(locked), plans[0], registry, file=str(locked))
