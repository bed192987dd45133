"""Sizes as people write them: `5.2GiB`, `500M`. One spelling for recipes and for the command line.

K, M, G and T (KB, MB, …) are thousands, as in llama.cpp's gguf-split; KiB, MiB, GiB and TiB are powers of two.
"""

from __future__ import annotations

import re
from decimal import Decimal

from quantrecipe.errors import RecipeError

__all__ = ["SIZE_PATTERN", "parse_size"]

SIZE_PATTERN = r"\s*[0-9]{1,15}(\.[0-9]{1,9})?\s*([KMGTkmgt]([iI]?[bB])?)?\s*"
"""What a size looks like; schema.json has it too."""

_PARTS = re.compile(r"\s*([0-9.]+)\s*([KMGT]?)(I?)B?\s*", re.ASCII)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """Bytes, rounded down. RecipeError where the text is no size, or nothing."""
    match = _PARTS.fullmatch(text.upper()) if re.fullmatch(SIZE_PATTERN, text, re.ASCII) else None
    if match is None:
        shown = repr(text if len(text) <= 60 else text[:57] + "…")
        raise RecipeError(f"{shown} is no size", "write 5.2GiB, 48G or 500M")
    base = 1024 if match[3] else 1000
    size = int(Decimal(match[1]) * base ** _POWERS[match[2]])
    if size <= 0:
        raise RecipeError("a size must be more than nothing", "write 5.2GiB, 48G or 500M")
    return size
