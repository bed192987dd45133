"""Built-in formats by their names."""

from __future__ import annotations

from quantrecipe.api import QuantFormat
from quantrecipe.formats import ALL

__all__ = ["format_type"]


def format_type(name: str) -> type[QuantFormat]:
    """The class of a built-in format."""
    return next(type(fmt) for fmt in ALL if fmt.spec.name == name)
