"""What `eval` has models do besides reading texts, while they are open: going on with them, answering questions.

The reference does it first, and the cache keeps that; then each file does.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from rich.console import RenderableType

from quantrecipe.cli.progress import EvalBar
from quantrecipe.core.cache import cache_folder, read_cached, write_cached
from quantrecipe.engine import Session
from quantrecipe.evaluate import Reference
from quantrecipe.plain_data import plain
from quantrecipe.typed import json_object, typed

__all__ = ["Extra", "kept_value"]

T = TypeVar("T")
Said = TypeVar("Said")
Figures = TypeVar("Figures")


@dataclass(frozen=True, kw_only=True, slots=True)
class Extra(ABC, Generic[Said, Figures]):
    """One of these, with what was found by now.

    place:     the key of what the reference did in the cache
    reference: what it did; None where it hasn't, and the cache doesn't know
    files:     what each file did, by its name
    """

    key: ClassVar[str]
    """Under which it stands in JSON, and in the cache."""

    place: str
    reference: Said | None
    files: dict[str, Said] = field(default_factory=dict)

    @property
    def missing(self) -> bool:
        """True where the reference hasn't done it."""
        return self.reference is None

    def first(self, session: Session, reference: Reference, progress: EvalBar) -> Self:
        """Have the reference do it, and keep that."""
        said = self.done(session, reference, progress.task(f"{session.path.name} (reference)", self.key))
        place = _place(self.key, self.place)
        with suppress(OSError):  # it is a cache: what can't be kept is done again
            place.parent.mkdir(parents=True, exist_ok=True)
        write_cached(place, json.dumps(plain(said)).encode())
        return replace(self, reference=said)

    def too(self, name: str, session: Session, reference: Reference, progress: EvalBar) -> Self:
        """Have a file of this name do it as well."""
        said = self.done(session, reference, progress.task(name, self.key))
        return replace(self, files={**self.files, name: said})

    @property
    def figures(self) -> dict[str, Figures]:
        """Of each file, by its name."""
        if self.reference is None:
            return {}
        first = next(iter(self.files.values()), None)
        return {
            name: self.compared(its, self.reference, None if its is first else first)
            for name, its in self.files.items()
        }

    @abstractmethod
    def done(self, session: Session, reference: Reference, progress: Callable[[int, int], None]) -> Said:
        """What an open model does."""

    @abstractmethod
    def compared(self, said: Said, reference: Said, first: Said | None) -> Figures:
        """The figures of what a file did, beside the reference and the first file; None: it is the first."""

    @abstractmethod
    def render(self, names: list[str]) -> list[RenderableType]:
        """A heading and a table, with a row for each file; names: what the files are called there."""

    @abstractmethod
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


def _place(kind: str, key: str) -> Path:
    return cache_folder() / kind / f"{key}.json"
