"""Q4_1: a scale and a minimum for 32 weights.

    32 weights → f16 d, f16 m, 16 × two 4-bit q (20 bytes)
    byte 4 + i holds q of weight i in its lower half, of weight 16 + i in its upper half

    x ≈ d * q + m

ggml: block_q4_1, quantize_row_q4_1_ref, quantize_row_q4_1_impl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import DECODE, ENCODE, ENCODE_WEIGHTED, decode_rows, encode_rows, kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.lanes import LANES, WORKSPACE, select
from quantrecipe.core.low_high import lows_and_highs
from quantrecipe.core.scale_min import KEPT_BASE, KEPT_ISCALE, MINIMUM, SCALE
from quantrecipe.core.scale_min_rows import find_in_rows
from quantrecipe.core.superblock import round_with

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["Q4_1"]

F32 = np.float32
I32 = np.int32
U8 = np.uint8
ZERO, ONE, HALF, INF = F32(0), F32(1), F32(0.5), F32(np.inf)

N, BYTES, NMAX = 32, 20, 15
TOP = F32(NMAX)

_lows_and_highs = lows_and_highs(N)
_find = find_in_rows(N, NMAX)
_round = round_with(N, NMAX)


class Q4_1(QuantFormat):  # noqa: N801  # the field's name
    """5 bits, with a scale and a minimum for 32 weights."""

    spec = FormatSpec(
        name="Q4_1",
        ggml_type=3,
        block=N,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"), StoredFloat(kind="f16", at=2, name="m")),
        importance="optional",
        error_bound=0.095,
        fallback="F16",
        file_type=3,  # LLAMA_FTYPE_MOSTLY_Q4_1
        summary="4 bits and a minimum: Q4_K does better at the same size",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        return encode_rows(self.spec, rows, importance, out, plain=_encode, weighted=_encode_weighted)

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, _decode)


@kernel
def _level(x: Any, low: Any, iscale: Any) -> Any:
    v = (x - low) * iscale + HALF
    v = select(v > ZERO, v, ZERO)
    return U8(I32(select(v < TOP, v, TOP)))


@disjoint_kernel
def _put(x: Any, low: Any, iscale: Any, to: Any) -> None:
    for i in range(N // 2):
        to[i] = U8(_level(x[i], low, iscale) | U8(_level(x[N // 2 + i], low, iscale) << U8(4)))


@kernel(ENCODE)
def _encode(rows: Any, out: Any) -> None:
    blocks = rows.size // N
    x, to = rows.reshape(blocks, N), out.reshape(blocks, BYTES)
    low, high = np.empty(blocks, np.float32), np.empty(blocks, np.float32)
    _lows_and_highs(rows.reshape(rows.size), low, high)
    for b in range(blocks):
        d = (high[b] - low[b]) / TOP
        iscale = select(d != ZERO, ONE / d, ZERO)
        # ggml's conversion of infinite and undefined quotients to a byte gives 0.
        iscale = select(iscale < INF, iscale, ZERO)
        put_half(to[b], 0, d)
        put_half(to[b], 2, low[b])
        _put(x[b], low[b], iscale, to[b, 4:])


@disjoint_kernel
def _pack(levels: Any, to: Any) -> None:
    for i in range(trips(N // 2, levels)):
        to[i] = U8(levels[i] | U8(levels[N // 2 + i] << U8(4)))


@kernel(ENCODE_WEIGHTED)
def _encode_weighted(rows: Any, importance: Any, out: Any) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s, levels = np.empty(WORKSPACE, np.float32), np.empty(N, np.uint8)
    squares = np.empty(rows.shape[0], np.float32)
    blocks = x.size // N
    for first in range(0, blocks, LANES):
        count = min(LANES, blocks - first)
        _find(x, importance, first, count, squares, s)
        for lane in range(count):
            at = place((first + lane) * BYTES)
            put_half(to, at, s[SCALE + lane])
            put_half(to, at + 2, s[MINIMUM + lane])
            # No other scale: the search's integers are the answer.
            _round(x, (first + lane) * N, ZERO, ZERO, s[KEPT_ISCALE + lane], s[KEPT_BASE + lane], levels, 0)
            _pack(levels, to[at + 4 :])


@disjoint_kernel
def _get(source: Any, d: Any, m: Any, x: Any) -> None:
    for i in range(trips(N // 2, x)):
        x[i] = F32(source[i] & U8(15)) * d + m
        x[N // 2 + i] = F32(source[i] >> U8(4)) * d + m


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    blocks = rows.size // N
    x, source = rows.reshape(blocks, N), data.reshape(blocks, BYTES)
    for b in range(blocks):
        d, m = get_half(source[b], 0), get_half(source[b], 2)
        _get(source[b, 4:], d, m, x[b])
