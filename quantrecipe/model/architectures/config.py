"""Config: what a model's config.json says, with what transformers assumes where it is silent."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    values: its content, over the architecture's defaults; the language model's part of it at the root
    rope:   the rotary embedding's settings, older spellings brought into one form
    whole:  its content, completed, with the parts of all towers in their places
    said:   names that stand in config.json itself, for errors: what transformers adds has other names at times
    stored: the names of the checkpoint's tensors: some sizes stand nowhere else
    """

    path: Path
    values: Mapping[str, Any]
    rope: Mapping[str, Any] = field(default_factory=dict)
    whole: Mapping[str, Any] = field(default_factory=dict)
    said: frozenset[str] = frozenset()
    stored: Collection[str] = ()
    _counts: dict[tuple[str, ...], int | None] = field(
        init=False, default_factory=dict, repr=False, compare=False
    )  # since they are asked for with each of 100,000 tensors

    @property
    def folder(self) -> Path:
        """The model's folder."""
        return self.path.parent

    @property
    def classes(self) -> Sequence[str]:
        """The names under "architectures"; none where the class is named in the language model's part only."""
        named = self.whole.get("architectures")
        return [name for name in named if isinstance(name, str)] if isinstance(named, list) else []

    def find(self, *names: str) -> Any:
        """The value of the first name that is there, even if it is null; None where none is."""
        return next((self.values[name] for name in names if name in self.values), None)

    def count(self, *names: str) -> int | None:
        """Return a whole number, 0 or more; None where none of the names is there."""
        if names not in self._counts:
            self._counts[names] = self._checked(self.called(*names), self.find(*names))
        return self._counts[names]

    def need(self, *names: str) -> int:
        """Return a whole number, 1 or more, that the model needs. ModelError where it is missing."""
        value = self.count(*names)
        if not value:
            self.fail(f"has no {self.called(*names)} (expected: a whole number above 0)")
        return value

    def number(self, *names: str) -> float | None:
        """Return any number; None where none of the names is there."""
        return self._number(self.called(*names), self.find(*names))

    def flag(self, name: str) -> bool | None:
        """Return true or false; None where the name isn't there, or is null."""
        value = self.find(name)
        if value is not None and not isinstance(value, bool):
            self.fail(f"says {name}: {shown(value)} (expected: true or false)")
        return value

    def per_layer(self, count: int, *names: str) -> Sequence[Any] | None:
        """Return one value for each of `count` layers; a single one stands for all. None where no name is there.

        Longer lists are cut: some have values for draft heads. ModelError where the list is shorter.
        """
        value = self.find(*names)
        if value is None or not isinstance(value, list):
            return None if value is None else [value] * count
        if len(value) < count:
            what = f"has {len(value)} values for {count} layers under {self.called(*names)}"
            self.fail(what, "correct it, or download it again")
        return value[:count]

    def counts(self, count: int, *names: str) -> Sequence[int]:
        """Return one whole number, 0 or more, for each of `count` layers. ModelError where there are none."""
        values = self.per_layer(count, *names)
        if values is None:
            self.fail(f"has no {names[0]} (expected: a whole number, or one for each layer)")
        checked = [self._checked(self.called(*names), value) for value in values]
        return [value or 0 for value in checked]

    def at(self, layer: int, *names: str) -> int:
        """Return a layer's whole number, of a list or one that is for all. ModelError where the model lacks it."""
        if isinstance(self.find(*names), list):
            return self.counts(layer + 1, *names)[layer]
        return self.need(*names)

    def stored_layers(self, pattern: re.Pattern[str]) -> int:
        """Return one more than the highest "layer" among the stored names that match; 0 where none does."""
        key = ("stored", pattern.pattern)
        if (known := self._counts.get(key)) is None:
            found = (pattern.fullmatch(name) for name in self.stored)
            known = max((int(match["layer"]) + 1 for match in found if match is not None), default=0)
            self._counts[key] = known
        return known

    def section(self, *names: str) -> Config:
        """Return the part of another tower, such as "vision_config". ModelError where it isn't there."""
        value = next((it for name in names if (it := self.whole.get(name)) is not None), None)
        if not isinstance(value, Mapping):
            self.fail(f"has no {names[0]} (expected: an object)")
        return replace(self, values=value, rope={})

    def part(self, name: str) -> Config:
        """Return an object within the configuration, such as "linear_attn_config". ModelError where it isn't there."""
        value = self.find(name)
        if not isinstance(value, Mapping):
            self.fail(f"has no {name} (expected: an object)")
        return replace(self, values=value, rope={})

    def rope_count(self, name: str) -> int | None:
        """Return a whole number of the rotary embedding's settings."""
        return self._checked(name, self.rope.get(name))

    def rope_number(self, name: str) -> float | None:
        """Return a number of the rotary embedding's settings."""
        return self._number(name, self.rope.get(name))

    def called(self, *names: str) -> str:
        """The name of these by which config.json has it; the first of all where it has none."""
        there = [name for name in names if name in self.values]
        return next((name for name in names if name in self.said), there[0] if there else names[0])

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
