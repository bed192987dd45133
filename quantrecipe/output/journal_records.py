"""Records of a journal: what is noted of an output that is being made, and the line that says so.

A line is `XXH3-64 of the JSON, the JSON`:

    ["key", {…}]                                what the bytes depend on (`run_key.py`): the first line
    ["rows", tensor, start, stop, XXH3-64 of their bytes, of what they were made from, lost, matrix, remark]
    ["first", tensor, stop, …]                  the first rows of a tensor: a `FirstRows`
    ["done", tensor, {…}]                       a whole tensor: a `MadeTensor`
    ["disk", n]                                 the first n bytes of this file are on the disk

and where an executor's workers make tensors, or parts of large ones (`shares/`):

    ["cut", n]                                  into units of so many bytes
    ["share", tensor, start, stop, XXH3-128 of their bytes, lost, remarks]
    ["source", tensor, XXH3-128 of what a tensor of which there are shares is made from]

Tensors are numbered as in the plan.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import xxhash

__all__ = ["FirstRows", "MadeRows", "MadeShare", "MadeTensor", "line_of", "record_of", "torn_at_once"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeRows:
    """Some rows of a tensor that are in the part.

    digest: XXH3-64 of their bytes, in hex
    source: the same of what they were made from (`kept.made_from`)
    lost:   weights among them that lost a value that isn't finite
    remark: (number of the matrix, what the encoder has to say of its statistics), if it has
    """

    digest: str
    source: str
    lost: int = 0
    remark: tuple[int, str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstRows:
    """The first rows of a tensor, which are in the part.

    stop:   how many
    data:   XXH3-128 of their bytes, in hex: what the hash of the tensor is by then
    source: XXH3-64 of what their units were made from, one after the other (`kept.made_from`)
    lost:   weights among them that lost a value that isn't finite
    """

    stop: int
    data: str
    source: str
    lost: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeShare:
    """Some rows of a tensor, or some factors, that a worker has made, and that are in the part.

    data: XXH3-128 of their bytes, in hex
    lost: weights among them that lost a value that isn't finite
    said: each matrix's remark, by its number
    """

    data: str
    lost: int = 0
    said: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeTensor:
    """A tensor that is in the part.

    source, data: XXH3-128, in hex, of what it was made from, and of its bytes
    lost:     weights that lost a value that isn't finite
    remarked: how many of its matrices the encoder made remarks on
    remarks:  the different ones of those
    reused:   it was copied from an older output
    """

    source: str
    data: str
    lost: int = 0
    remarked: int = 0
    remarks: tuple[str, ...] = ()
    reused: bool = False


def line_of(text: bytes) -> bytes:
    """The line of a record with this JSON."""
    return xxhash.xxh3_64_hexdigest(text).encode() + b" " + text + b"\n"


@cache
def _shapes() -> dict[tuple[str, int], Any]:
    """What stands behind the kind of a record, by kind and length."""
    from quantrecipe.typed import Natural  # for a journal that there is: msgspec takes time to load

    return {
        ("key", 2): tuple[dict[str, Any]],
        ("rows", 7): tuple[Natural, Natural, Natural, str, str, Natural],
        ("rows", 9): tuple[Natural, Natural, Natural, str, str, Natural, Natural, str],
        ("first", 6): tuple[Natural, Natural, str, str, Natural],
        ("done", 3): tuple[Natural, MadeTensor],
        ("cut", 2): tuple[Natural],
        ("share", 7): tuple[Natural, Natural, Natural, str, Natural, tuple[tuple[Natural, str], ...]],
        ("source", 3): tuple[Natural, str],
        ("disk", 2): tuple[Natural],
    }


def record_of(line: bytes) -> list[Any] | None:
    """What a line says; None if it isn't as it was written."""
    digest, _, text = line[:-1].partition(b" ")
    if line[-1:] != b"\n" or digest != xxhash.xxh3_64_hexdigest(text).encode():
        return None
    from quantrecipe.typed import typed

    try:
        record = json.loads(text)
        shape = _shapes()[record[0], len(record)]
        return [record[0], *typed(record[1:], shape)]
    except (ValueError, TypeError, LookupError, RecursionError):  # of somebody who knows the hash
        return None


def torn_at_once(line: bytes) -> bool:
    """True for what a crash leaves of a first line: zeros, or its beginning."""
    text = line.rstrip(b"\0")
    digest, _, rest = text.partition(b" ")
    begun = len(digest) <= 16 and not digest.strip(b"0123456789abcdef") and b'["key"'.startswith(rest[:6])
    return begun and not text.endswith(b"\n")
