"""The folder of a store: an argument of the commands about stores, an option of those that use one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from quantrecipe.output.store.store import Store

__all__ = ["VARIABLE", "existing_store", "store_argument", "store_option"]

VARIABLE = "QUANTRECIPE_STORE"

F = TypeVar("F", bound=Callable[..., Any])

_FOLDER = click.Path(path_type=Path, file_okay=False)

store_argument = click.argument(
    "folder", metavar="[FOLDER]", type=_FOLDER, envvar=VARIABLE, required=False, default=None
)

store_option = click.option(
    "--store",
    metavar="DIR",
    type=_FOLDER,
    envvar=VARIABLE,
    help="Take tensors that were encoded before from this folder, and keep there what is encoded now. "
    f"[default: ${VARIABLE}, else none]",
)
"""Gives the command `store`: a Path or None."""


def existing_store(folder: Path | None) -> Store:
    """The store of the command line, or of the environment. OutputError where it isn't one."""
    from quantrecipe.output.store.store import open_store

    if folder is None:
        raise click.UsageError(f"Name the store's FOLDER, or set {VARIABLE}.")
    return open_store(folder, create=False)
