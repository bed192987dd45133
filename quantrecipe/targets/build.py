"""Builds of engines, which come one after the other: b7000, 0.34.2."""

from __future__ import annotations

import re

from quantrecipe.errors import RecipeError

__all__ = ["build_number"]

_BUILD = re.compile(r"[bv]?([0-9]{1,9}(?:\.[0-9]{1,9}){0,3})", re.ASCII)


def build_number(text: str) -> tuple[int, ...]:
    """ "b7000" and "7000" → (7000,); "0.34.2" → (0, 34, 2). RecipeError where it is neither."""
    match = _BUILD.fullmatch(text.strip())
    if match is None:
        raise RecipeError(f"{text[:40]!r} is no build", "write it as the engine prints it: b7000, or 0.34.2")
    return tuple(int(part) for part in match[1].split("."))
