"""What `eval` has models do besides reading texts, while they are open: going on with them, answering questions.

The reference does it first, and the cache keeps that; then each file does.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from rich.console import RenderableType

from quantrecipe.cli.progress import EvalBar
from quantrecipe.core.cache import cache_folder, read_cached, write_cached
from quantrecipe.engine import Session
from quantrecipe.evaluate import Reference
from quantrecipe.plain_data import plain
from quantrecipe.typed import json_object, typed

__all__ = ["Extra", "keep_value", "kept_value"]

T = TypeVar("T")


class Extra(Protocol):
    """One of these, with what was found by now."""

    @property
    def key(self) -> str:
        """Under which it stands in JSON."""

    @property
    def missing(self) -> bool:
        """True where the reference hasn't done it, and the cache doesn't know."""

    def first(self, session: Session, reference: Reference, progress: EvalBar) -> Self:
        """Have the reference do it, and keep that."""

    def too(self, name: str, session: Session, reference: Reference, progress: EvalBar) -> Self:
        """Have a file of this name do it as well."""

    def render(self, names: list[str]) -> list[RenderableType]:
        """A heading and a table, with a row for each file; names: what the files are called there."""

    def to_json(self) -> dict[str, Any]:
        """What is printed of it."""


def kept_value(kind: str, key: str, type_: type[T]) -> T | None:
    """What the cache has of the reference; None where there is nothing, or it is damaged."""
    if (data := read_cached(_place(kind, key))) is None:
        return None
    try:
        return typed(json_object(data), type_)
    except ValueError:
        return None


def keep_value(kind: str, key: str, value: object) -> None:
    """Keep it for the next run. A cache that can't be written is no error."""
    place = _place(kind, key)
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
    write_cached(place, json.dumps(plain(value)).encode())


def _place(kind: str, key: str) -> Path:
    return cache_folder() / kind / f"{key}.json"
