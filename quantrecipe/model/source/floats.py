"""Numbers of the types in which sources are stored → float32, and back to those that a tensor may become.

    BF16      the upper half of a float32
    F8_E4M3   sign, 4 bits of exponent (bias 7), 3 of mantissa; no Inf, NaN where all seven bits are set ("e4m3fn")
    F8_E5M2   the upper half of a float16
    F8_E8M0   an exponent alone: 2^(e - 127); NaN where all bits are set

Source: the OCP 8-bit floating point specification, and that of microscaling formats for E8M0.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from quantrecipe.core.half import bf16_bytes_from_rows
from quantrecipe.model.source.source import NUMBERS

__all__ = ["as_array", "from_float32", "table_of_8_bits", "to_float32"]

_BITS_OF_FLOATS = {"BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0"}
_Floats = NDArray[np.float32]


def as_array(raw: NDArray[np.uint8], dtype: str) -> NDArray[np.generic]:
    """Stored rows as numbers: uint8 (n, row bytes) → (n, cols); as float32 where NumPy lacks the type."""
    if dtype in _BITS_OF_FLOATS:
        return to_float32(raw, dtype)
    return raw.view(NUMBERS[dtype][0])


def to_float32(raw: NDArray[np.uint8], dtype: str) -> _Floats:
    """Stored rows → float32: uint8 (n, row bytes) → (n, cols). F64 is rounded, large integers are, too."""
    bits = raw.view(NUMBERS[dtype][0])
    if dtype == "BF16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype in _BITS_OF_FLOATS:
        return np.take(table_of_8_bits(dtype), bits)
    with np.errstate(
        over="ignore"
    ):  # what is too large for float32 becomes Inf, which whoever encodes it refuses
        return bits.astype(np.float32, copy=False)


def from_float32(values: _Floats, dtype: str) -> NDArray[np.uint8]:
    """float32 (n, cols) → stored rows (n, row bytes): F32, F16 or BF16, rounded to nearest, ties to even."""
    values = np.ascontiguousarray(values)
    if dtype == "F32":
        return values.view(np.uint8)
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).view(np.uint8)
    if dtype != "BF16":
        raise ValueError(f"{dtype} isn't a type that weights are computed in")
    stored = np.empty((*values.shape[:-1], 2 * values.shape[-1]), np.uint8)
    bf16_bytes_from_rows(values.reshape(-1, values.shape[-1]), stored.reshape(-1, stored.shape[-1]))
    return stored


@cache
def table_of_8_bits(dtype: str) -> _Floats:
    """All 256 numbers of an 8-bit float type, by their bits: float32 (256,)."""
    bits = np.arange(256, dtype=np.uint32)
    if dtype == "F8_E5M2":
        table = (bits << np.uint32(8)).astype(np.uint16).view(np.float16).astype(np.float32)
    elif dtype == "F8_E8M0":
        table = np.append(np.ldexp(np.float32(1), np.arange(255) - 127), np.float32(np.nan))
    else:
        # Its bits as the upper ones of a float16 have an exponent that is 8 too small, subnormal numbers included.
        halves = ((bits & 0x80) << 8 | (bits & 0x7F) << 7).astype(np.uint16).view(np.float16)
        table = halves.astype(np.float32) * np.float32(256)
        table[[0x7F, 0xFF]] = np.nan
    table.setflags(write=False)
    return table
