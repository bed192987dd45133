"""Values as plain data, which JSON can hold: one way for everything that a command prints with --json.

    plain(value)                       → None, bool, int, float, str, list or dict, all the way down
    fields_of(value, "name", "nbytes") → {"name": value.name, "nbytes": value.nbytes}

The order of keys is part of what is promised (docs/cli.md). A dataclass becomes an object whose keys are its fields, in
the order in which they are declared. A class whose JSON isn't simply its fields has a `to_json` method, which names the
keys in their order; it needn't look after what is below them, since `plain` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from pathlib import PurePath
from typing import Any

__all__ = ["fields_of", "plain", "rounded_bits", "significant"]

_BITS_DIGITS = 4
"""Digits behind the point: enough to tell apart two mixes of a model whose smallest tensor has another type."""
_LOSS_DIGITS = 6
"""Significant digits of a loss: the last of them are beyond what any measurement of one is sure of."""


def plain(value: object) -> Any:
    """The value as JSON holds it. TypeError for what has no plain form: nothing is guessed."""
    if value is None or isinstance(value, str | int):  # bool and enumerations of numbers are ints
        return value
    if isinstance(value, float):
        return value if isfinite(value) else None  # JSON has neither NaN nor Inf
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if (to_json := getattr(value, "to_json", None)) is not None:
        return plain(to_json())
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} has no plain form")


def fields_of(value: object, *names: str) -> dict[str, Any]:
    """Attributes by their names, in this order; computed ones count, too."""
    return {name: getattr(value, name) for name in names}


def rounded_bits(number: float | None) -> float | None:
    """Bits per weight as they are printed; None stays None."""
    return None if number is None else round(number, _BITS_DIGITS)


def significant(number: float, digits: int = _LOSS_DIGITS) -> float:
    """A loss as it is printed, however small it is."""
    return float(f"{number:.{digits}g}")
