"""Sizes and contexts as people write them and read them: one grammar for recipes, the command line and all output.

    memory  8, 8G, 8GB, 8GiB   8 × 2^30 bytes: of a graphics card or of RAM, people mean GiB; 12282MiB
    files   5.2GB, 48G, 500M   thousands, as file hosts and llama.cpp's gguf-split count; 5.2GiB are powers of two
    tokens  8192, 8k, 128k     k is 1024, as in the names of models; 1M is 1024 × 1024

A number without a unit is taken only where it can mean one thing: a memory below 1024 is GiB, and from a million on a
size is in bytes. Everything else is refused, with what was probably meant.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING

from quantrecipe.errors import RecipeError
from quantrecipe.wording import quoted

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = [
    "FILE_PATTERN",
    "MEMORY_PATTERN",
    "TOKENS_PATTERN",
    "binary_unit",
    "bytes_text",
    "file_text",
    "memory_text",
    "parse_file_size",
    "parse_memory",
    "parse_tokens",
    "require_size",
    "tokens_text",
    "whole_number",
]

_NUMBER = r"[0-9]{1,15}(\.[0-9]{1,9})?"
_UNIT = r"([KMGTkmgt]([iI]?[bB]|[iI])?|[bB])"
MEMORY_PATTERN = rf"\s*{_NUMBER}\s*{_UNIT}?\s*"
FILE_PATTERN = rf"\s*([0-9]{{7,15}}|{_NUMBER}\s*{_UNIT})\s*"
TOKENS_PATTERN = rf"\s*([0-9]{{1,3}}(,[0-9]{{3}})+|{_NUMBER}\s*[kKmM]|[0-9]{{1,15}})\s*(tokens?)?\s*"
"""What each looks like; schema.json has them too."""

_PARTS = re.compile(r"\s*([0-9.]+)\s*([KMGT]?)(I?)(B?)\s*", re.ASCII)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_BINARY_UNITS = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_BYTES_FROM = 1_000_000
"""From here on a bare number can only be bytes: no file or memory that anybody plans for is smaller."""
_GIB_BELOW = 1024
"""Below, a bare memory is GiB; above it could be the MiB that nvidia-smi prints."""
_MOST = 1 << 60
"""1 EiB: more than any file or machine has, so a slip of the keys."""
_FEWEST_TOKENS = 128
"""A bare context below is meant in k: no chat fits into 8 tokens, and models are named for 8k, 32k, 64k."""
_MOST_TOKENS = 1 << 31


def whole_number(text: str, digits: int = 9) -> int | None:
    """A number of up to so many digits, 0 to 9; None for what is none.

    In place of `text.isdigit()` and `int(text)`: ² is a digit to the one and an error to the other, and so are 5,000
    digits.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= digits else None


def parse_memory(text: str | float) -> int:
    """Read the bytes of a memory, of a GPU or the main one, rounded down. RecipeError if the text is none."""
    remedy = "write 8GiB, 8G or 8"
    if not isinstance(text, str):
        text = _plain(text)
    match = _parts(text, parse_memory, remedy)
    number, power, unit = _exact(match[1]), _POWERS[match[2]], match[2] + match[4]
    if not unit and _GIB_BELOW <= number < _BYTES_FROM:
        raise RecipeError(
            f"{text.strip()!r} has no unit, and could be MiB or GiB",
            f"write {match[1]}MiB, or {match[1]}GiB",
        )
    if not unit and number < _GIB_BELOW:
        power = _POWERS["G"]
    size = int(number * 1024**power)
    _require_amount(number, size, remedy)
    if size < _BYTES_FROM:
        meant = f"did you mean {match[1]}GiB?" if number < _GIB_BELOW else remedy
        raise RecipeError(f"{text.strip()!r} is {size:,} bytes, which is no memory", meant)
    return size


def parse_file_size(text: str | float) -> int:
    """Read the bytes of a file, rounded down. RecipeError if it is no size, or a small number without a unit."""
    remedy = "write 5.2GB, 48G or 500M"
    if not isinstance(text, str):
        text = _plain(text)
    match = _parts(text, parse_file_size, remedy)
    number, unit = _exact(match[1]), match[2] + match[4]
    size = int(number * (1024 if match[3] else 1000) ** _POWERS[match[2]])
    _require_amount(number, size, remedy)
    if not unit and number < _BYTES_FROM:
        meant = f"{match[1]}{'GB' if number < _GIB_BELOW else 'MB'}"
        raise RecipeError(
            f"{text.strip()!r} has no unit, and would be {size:,} bytes", f"did you mean {meant}?"
        )
    return size


def parse_tokens(text: str | int) -> int:
    """Read the tokens of a context. RecipeError if it is no such number, or so few that k was forgotten."""
    remedy = "write 8192, or 8k"
    text = str(text)
    if not re.fullmatch(TOKENS_PATTERN, text, re.ASCII):
        raise _no_such(text, "number of tokens", parse_tokens, remedy)
    bare = text.strip().lower().removesuffix("s").removesuffix("token").strip().replace(",", "")
    factor = {"k": 1024, "m": 1024**2}.get(bare[-1], 1)
    tokens = int(_exact(bare.rstrip("km").strip()) * factor)
    _require_amount(_exact(tokens), tokens, remedy, most=_MOST_TOKENS)
    if factor == 1 and tokens < _FEWEST_TOKENS:
        raise RecipeError(
            f"a context of {tokens:,} tokens is too short for anything", f"did you mean {tokens}k?"
        )
    return tokens


def require_size(text: str) -> None:
    """Raise RecipeError if the text is neither a size nor a number of tokens: it may be used as either later."""
    if not re.fullmatch(f"{MEMORY_PATTERN}|{TOKENS_PATTERN}", text, re.ASCII):
        raise _no_such(text, "size", parse_memory, "write 5.2GiB, 48G or 500M; of a context 8k")


def bytes_text(nbytes: float) -> str:
    """Write bytes in binary units, as file managers and llama.cpp do: 4_920_000_000 → "4.58 GiB"."""
    unit, size = binary_unit(nbytes)
    return f"{nbytes:.0f} B" if size == 1 else f"{nbytes / size:.2f} {unit}"


def binary_unit(nbytes: float) -> tuple[str, int]:
    """Return the unit in which so many bytes are told, and its size: 4_920_000_000 → ("GiB", 2^30)."""
    return next(((unit, size) for unit, size in _BINARY_UNITS if abs(nbytes) >= size), ("B", 1))


def memory_text(nbytes: int) -> str:
    """Write a memory as `parse_memory` reads it, without zeros behind the point: 12884901888 → "12 GiB"."""
    number, unit = bytes_text(nbytes).split()
    return f"{_short(number)} {unit}"


def file_text(nbytes: int) -> str:
    """Write a limit as `parse_file_size` reads it, and as sizes are shown: 5200000000 → "5.2 GB (4.84 GiB)"."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if nbytes >= size:
            return f"{_short(f'{nbytes / size:.2f}')} {unit} ({bytes_text(nbytes)})"
    return f"{nbytes} B"


def tokens_text(tokens: int) -> str:
    """Write a number of tokens: 8192 → "8,192 tokens"."""
    return f"{tokens:,} tokens"


def _short(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


def _plain(number: float) -> str:
    """Write a number of YAML as a person would: 7.5, never 1e+16."""
    return str(number) if isinstance(number, int) else f"{number:.9f}".rstrip("0").rstrip(".")


def _parts(text: str, parse: Callable[[str], int], remedy: str) -> re.Match[str]:
    """Return number, power, i and B of a size. RecipeError if it is none."""
    parts = _PARTS.fullmatch(text.upper()) if re.fullmatch(MEMORY_PATTERN, text, re.ASCII) else None
    if parts is None:
        raise _no_such(text, "size", parse, remedy)
    return parts


def _no_such(text: str, what: str, parse: Callable[[str], int], remedy: str) -> RecipeError:
    """Return the error, with what the text may have been meant to be."""
    point = re.sub(r",(?![0-9]{3}(?![0-9]))", ".", text)  # 8,5G; but 8,192 is a matter of thousands
    for likely in (point, unicodedata.normalize("NFKC", text)):
        if likely != text and len(text) <= 60:
            try:
                parse(likely)
            except RecipeError:
                continue
            remedy = f"did you mean {likely.strip()}? Sizes have plain digits, and a point instead of a comma"
            break
    return RecipeError(f"{quoted(text)} is no {what}", remedy)


def _exact(number: str | int) -> Decimal:
    from decimal import Decimal  # for texts that are read: most plans have no size in them

    return Decimal(number)


def _require_amount(number: Decimal, size: int, remedy: str, most: int = _MOST) -> None:
    if number <= 0 or size <= 0:
        raise RecipeError("it must be more than nothing", remedy)
    if size > most:
        raise RecipeError("that is more than there is anywhere", remedy)
