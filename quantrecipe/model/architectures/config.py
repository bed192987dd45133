"""Config: what a model's config.json says, with what transformers assumes where it is silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

from quantrecipe.errors import ModelError
from quantrecipe.wording import shortened

__all__ = ["MAX_FLOAT32", "Config", "shown"]

MAX_FLOAT32 = (2 - 2**-23) * 2.0**127


def shown(value: Any) -> str:
    """A value of config.json, as it may stand in a message."""
    return shortened(repr(value))


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Hyper-parameters by the names that config.json uses, checked when they are asked for.

    path:   the config.json, for errors
    values: its content, over the architecture's defaults
    rope:   the rotary embedding's settings, older spellings brought into one form
    """

    path: Path
    values: Mapping[str, Any]
    rope: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The model's folder."""
        return self.path.parent

    def find(self, *names: str) -> Any:
        """The value of the first name that is there, even if it is null; None where none is."""
        return self.values.get(self.called(*names))

    def count(self, *names: str) -> int | None:
        """Return a whole number, 0 or more; None where none of the names is there."""
        return self._checked(self.called(*names), self.find(*names))

    def need(self, *names: str) -> int:
        """Return a whole number, 1 or more, that the model needs. ModelError where it is missing."""
        value = self.count(*names)
        if not value:
            self.fail(f"has no {self.called(*names)} (expected: a whole number above 0)")
        return value

    def number(self, *names: str) -> float | None:
        """Return any number; None where none of the names is there."""
        return self._number(self.called(*names), self.find(*names))

    def rope_count(self, name: str) -> int | None:
        """Return a whole number of the rotary embedding's settings."""
        return self._checked(name, self.rope.get(name))

    def rope_number(self, name: str) -> float | None:
        """Return a number of the rotary embedding's settings."""
        return self._number(name, self.rope.get(name))

    def called(self, *names: str) -> str:
        """The first of these names that is there; the first of all where none is."""
        return next((name for name in names if name in self.values), names[0])

    def _checked(self, name: str, value: Any) -> int | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
            self.fail(f"says {name}: {shown(value)} (expected: a whole number)")
        return value

    def _number(self, name: str, value: Any) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_FLOAT32:
            self.fail(f"says {name}: {shown(value)} (expected: a number)")
        return value

    def fail(self, what: str, remedy: str = "download it again, or mend it") -> Never:
        """Raise a ModelError about config.json."""
        raise ModelError(what, remedy, file=self.path)
