"""typed: what a JSON or TOML file says, as a value of the type that it has to have.

    class Entry(Record):
        dtype: str
        shape: tuple[Natural, ...]

    typed({"dtype": "F32", "shape": [2, 3]}, Entry)    Entry(dtype="F32", shape=(2, 3))
    typed({"dtype": "F32", "shape": [2, -3]}, Entry)   ValueError: shape[1]: expected `int` >= 0

Files are hostile until a check shows that they are harmless. What annotations can say (types, ranges, lengths, which
keys there are) is checked here; sums, repeats and what one part says of another stay with the reader. So do the file's
name, the line and the remedy: readers turn the ValueError into an error of their own kind.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Annotated, Any, Never, TypeVar

import msgspec
from msgspec import Meta

__all__ = ["Finite", "Natural", "NotNegative", "Positive", "Record", "json_object", "typed"]

T = TypeVar("T")

_LARGEST = sys.float_info.max  # without a bound, infinity would be a number
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # half of a surrogate pair; both halves together are a character
_MAX_SAID = 200
"""Characters of a message: it may hold a key of the file, which may be of any length."""

Natural = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Finite = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]
NotNegative = Annotated[float, Meta(ge=0, le=_LARGEST)]


class Record(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A table or an object whose keys are all known. A field with a default may be left out."""


def typed(document: object, kind: type[T]) -> T:
    """The document as a value of this type. ValueError says where it is something else, and what was expected."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        where = where.strip("`.")
        said = f"{where}: {what[:1].lower()}{what[1:]}" if where else what
        raise ValueError(said[:_MAX_SAID]) from error


def json_object(raw: bytes | str) -> dict[str, Any]:
    """A JSON object without repeated keys, at any depth. ValueError says what else it is."""
    try:
        text = raw if isinstance(raw, str) else raw.decode()
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        if _HALF.search(text):
            json.dumps(
                value, ensure_ascii=False
            ).encode()  # a UnicodeEncodeError here, and not when it is printed
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("is not valid JSON: half a surrogate pair in it is no character") from None
    except ValueError as error:
        raise ValueError(f"is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the name {key!r} is there twice")
        found[key] = value
    return found


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not a JSON number")
