"""Digests of a plan: what a file records of how it was made, and what is recomputed to check it.

All are XXH3-128 in hex, of JSON without spaces and with sorted keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import xxhash

from quantrecipe.api import Encoder, QuantFormat

__all__ = ["encoding_digest", "plan_digest"]


def encoding_digest(
    fmt: QuantFormat, *, copied: bool, importance: str, encoder: Encoder | None = None, inputs: str = ""
) -> str:
    """What a tensor's bytes depend on besides the source. `importance`: digest of the tensor's own, "" without.

    encoder: None where the format makes them by itself; inputs: the digest of the statistics of its inputs
    """
    spec = fmt.spec
    content: list[object] = [spec.name, spec.version, dict(fmt.options), copied, importance]
    if encoder is not None:  # so that digests without one stay as they were
        content.append([encoder.name, encoder.version, dict(encoder.options), inputs])
    return _hash(content)


def plan_digest(
    recipe: str, importance: str | None, tensors: Iterable[tuple[str, tuple[int, ...], str, str, int, str]]
) -> str:
    """What is written, in this order. `recipe` and `importance` are digests.

    tensors: name, shape, type in the source, type in the output, bytes, digest of the encoding
    """
    return _hash(
        {"recipe": recipe, "importance": importance, "tensors": [list(tensor) for tensor in tensors]}
    )


def _hash(content: object) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
