"""Rounded: weights as one type leaves them, stored in another that is nearly exact. shaken: what that one may do.

A probe asks what a tensor's rounding does to the output. Rounded weights in the resident model's type have the size
and the place that the tensor has there, and nothing else changes. What the type does to all other weights is there
before and after.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.api import FormatSpec, QuantFormat

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["SHAKEN", "Rounded", "shaken"]

SHAKEN = ("F32", "F16", "BF16", "Q8_0")
"""Types that `shaken` knows: those of resident models."""

_Q8_0_BYTES = 34  # of a block: a float16 and 32 integers
_STORED = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}
_INFINITE = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}
_ODDS = 12


class Rounded(QuantFormat):
    """encode rounds to `inner` first, and stores the result as `base`."""

    spec: FormatSpec  # type: ignore[misc]  # of the instance: it is made of two others'

    def __init__(self, base: QuantFormat, inner: QuantFormat) -> None:
        super().__init__()
        self.spec = replace(
            base.spec, rows_per_group=inner.spec.rows_per_group, importance=inner.spec.importance
        )
        self._base = base
        self._inner = inner

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        """The rounded rows in the base's type, in the shape and size that it always has."""
        rounded = self._inner.decode(self._inner.encode(rows, importance), rows.shape[1])
        return self._base.encode(rounded, out=out)

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        """The rows as the base decodes them."""
        return self._base.decode(data, k, out=out)


def shaken(data: ByteArray, type_: str, rng: np.random.Generator) -> ByteArray:
    """Bytes of a type, flat, with one value in twelve moved by one step of it; unchanged where it isn't of `SHAKEN`.

    That has the mean square of a rounding error, a twelfth of a step's: as much as rounding to the type does to values
    that lie evenly between its steps. A step of a float is one in its last place, one of Q8_0 its block's scale.
    """
    if type_ not in SHAKEN:
        return data
    result = data.copy()
    if type_ == "Q8_0":
        codes = result.reshape(-1, _Q8_0_BYTES)[:, 2:].view(np.int8)
        codes[...] = np.clip(codes.astype(np.int16) + _steps(rng, codes.shape), -127, 127)
        return result
    bits = result.view(_STORED[type_])
    sign = bits & bits.dtype.type(1 << (8 * bits.itemsize - 1))
    size = (bits ^ sign).astype(np.int64)
    moved = np.abs(size + _steps(rng, bits.shape))
    bits[...] = sign | np.where(moved < _INFINITE[type_], moved, size).astype(bits.dtype)
    return result


def _steps(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int16]:
    """-1 or 1 in one place of twelve, else 0."""
    drawn = rng.integers(0, 2 * _ODDS, shape, np.uint8)
    steps: NDArray[np.int16] = (drawn == 0).astype(np.int16) - (drawn == 1)
    return steps
