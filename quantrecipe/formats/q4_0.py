"""Q4_0: a scale for 32 weights.

    32 weights → f16 d, 16 × two 4-bit q (18 bytes)
    byte 2 + i holds q of weight i in its lower half, of weight 16 + i in its upper half

    x ≈ d * (q - 8)

ggml: block_q4_0, quantize_row_q4_0_ref, quantize_row_q4_0_impl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import DECODE, ENCODE, ENCODE_WEIGHTED, decode_rows, encode_rows, kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.lanes import LANES, WORKSPACE, first_peak, select
from quantrecipe.core.scale_signed import SCALE, find_in_rows, round_signed

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["Q4_0"]

F32 = np.float32
I32 = np.int32
U8 = np.uint8
ZERO, ONE, INF = F32(0), F32(1), F32(np.inf)

N, BYTES, NMAX = 32, 18, 8
LOWEST, TOP, SHIFT = F32(-NMAX), F32(2 * NMAX - 1), F32(NMAX + 0.5)

_peak = first_peak(N)
_find = find_in_rows(N, NMAX)
_round = round_signed(N, NMAX)


class Q4_0(QuantFormat):  # noqa: N801  # the field's name
    """4.5 bits, with a scale for 32 weights."""

    spec = FormatSpec(
        name="Q4_0",
        ggml_type=2,
        block=N,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        importance="optional",
        error_bound=0.115,
        fallback="F16",
        file_type=2,  # LLAMA_FTYPE_MOSTLY_Q4_0
        summary="4 bits, the simplest way: for engines that run nothing else as fast",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        return encode_rows(self.spec, rows, importance, out, plain=_encode, weighted=_encode_weighted)

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, _decode)


@kernel(ENCODE)
def _encode(rows: Any, out: Any) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    bits, levels, length = x.view(np.uint32), np.empty(N, np.uint8), trips(N, x)
    for block in range(x.size // N):
        first, at = place(block * N), place(block * BYTES)
        d = _peak(x, bits, first) / LOWEST
        iscale = select(d != ZERO, ONE / d, ZERO)
        # ggml's conversion of an infinite quotient to int8 gives 0.
        finite = abs(iscale) < INF
        shift, iscale = select(finite, SHIFT, ZERO), select(finite, iscale, ZERO)
        put_half(to, at, d)
        for i in range(length):
            v = x[first + i] * iscale + shift
            levels[i] = U8(I32(select(v < TOP, v, TOP)))
        _pack(levels, 1, to, at)


@kernel
def _pack(levels: Any, count: Any, to: Any, at: Any) -> None:
    """Store the integers of count blocks, the first at to[at:]."""
    half = trips(N // 2, levels)
    for block in range(count):
        first, start = place(block * N), place(at + block * BYTES + 2)
        for i in range(half):
            to[start + i] = levels[first + i] | U8(levels[first + N // 2 + i] << U8(4))


@kernel(ENCODE_WEIGHTED)
def _encode_weighted(rows: Any, importance: Any, out: Any) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s, levels = np.empty(WORKSPACE, np.float32), np.empty(LANES * N, np.uint8)
    searched = np.zeros(LANES, np.float32)  # no other scales: the search's integers are the answer
    squares = np.empty(rows.shape[0], np.float32)
    blocks = x.size // N
    for first in range(0, blocks, LANES):
        count = min(LANES, blocks - first)
        _find(x, importance, first, count, squares, s)
        _round(x, first * N, count, searched, s, 0, levels)
        for lane in range(count):
            put_half(to, place((first + lane) * BYTES), s[SCALE + lane])
        _pack(levels, count, to, first * BYTES)


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    half = trips(N // 2, x)
    for block in range(x.size // N):
        first, at = place(block * N), place(block * BYTES)
        d = get_half(source, at)
        for i in range(half):
            q = source[at + 2 + i]
            x[first + i] = (F32(q & U8(15)) - F32(8)) * d
            x[first + N // 2 + i] = (F32(q >> U8(4)) - F32(8)) * d
