"""Keys: everything that the bytes of an encoded tensor depend on, as two hashes.

    group   how it is made, and the first of the rows that it is made of: XXH3-128 of
              version of quantrecipe, Assignment.encoding (type, options, importance, encoder and its statistics),
              the source's type, the shape, the factors beside the source, the bytes of the first row
    rows    XXH3-128 of all rows that it is made of, as the source gives them

The rows are hashed as they reach the encoder, after whatever the model's architecture does to them (rotary rows that
change places, experts that are stacked). So the same tensor in another container, or in another model, has the same
key.

To know the second takes reading the whole tensor. The first is had by reading a row, and tells nearly always whether
that is worth it.
"""

from __future__ import annotations

import json

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe import __version__
from quantrecipe.api import FormatSpec
from quantrecipe.plan.plan import Assignment

__all__ = ["group_of"]

_FORMAT = 1
"""Of the store's files."""


def group_of(
    a: Assignment, source: FormatSpec, times: NDArray[np.float32] | None, first_row: NDArray[np.uint8]
) -> str:
    """The first hash, in hex. source: the type of the rows; times: factors beside them; first_row: its bytes."""
    content = [
        *(_FORMAT, __version__, a.encoding, a.type, a.importance),
        *(source.name, source.version, list(a.tensor.shape), a.tensor.experts),
        "" if times is None else xxhash.xxh3_128_hexdigest(times.tobytes()),
        xxhash.xxh3_128_hexdigest(first_row.tobytes()),
    ]
    return xxhash.xxh3_128_hexdigest(json.dumps(content).encode())
