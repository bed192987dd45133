"""Q5_0: a scale for 32 weights.

    32 weights → f16 d, 32 × 5-bit q (22 bytes; see `core/five_bit.py`)

    x ≈ d * (q - 16)

ggml: block_q5_0, quantize_row_q5_0_ref, quantize_row_q5_0_impl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import DECODE, ENCODE, ENCODE_WEIGHTED, decode_rows, encode_rows, kernel
from quantrecipe.core.bits import place
from quantrecipe.core.five_bit import get_five_bit, put_five_bit
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.lanes import LANES, WORKSPACE, select
from quantrecipe.core.low_high import first_peak_of, lows_and_highs
from quantrecipe.core.scale_signed import SCALE, find_in_rows, round_signed

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["Q5_0"]

F32 = np.float32
I32 = np.int32
U8 = np.uint8
ZERO, ONE, INF = F32(0), F32(1), F32(np.inf)

N, BYTES, NMAX = 32, 22, 16
LOWEST, SHIFT, TOP = F32(-NMAX), F32(NMAX + 0.5), F32(2 * NMAX - 1)
# x * d + -0 is x * d, whatever its sign.
MIDDLE, NOTHING = F32(NMAX), F32(-0.0)

_lows_and_highs = lows_and_highs(N)
_find = find_in_rows(N, NMAX)
_round = round_signed(N, NMAX)


class Q5_0(QuantFormat):  # noqa: N801  # the field's name
    """5.5 bits, with a scale for 32 weights."""

    spec = FormatSpec(
        name="Q5_0",
        ggml_type=6,
        block=N,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        importance="optional",
        error_bound=0.06,
        fallback="F16",
        file_type=8,  # LLAMA_FTYPE_MOSTLY_Q5_0
        summary="5 bits, the simplest way: what Q4_K falls back to",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        return encode_rows(self.spec, rows, importance, out, plain=_encode, weighted=_encode_weighted)

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, _decode)


@kernel
def _level(x: Any, iscale: Any, shift: Any) -> Any:
    v = x * iscale + shift
    return U8(I32(select(v < TOP, v, TOP)))


@disjoint_kernel
def _round_plain(x: Any, iscale: Any, shift: Any, levels: Any) -> None:
    for i in range(N // 2):
        levels[i] = _level(x[i], iscale, shift)
        levels[N // 2 + i] = _level(x[N // 2 + i], iscale, shift)


@kernel(ENCODE)
def _encode(rows: Any, out: Any) -> None:
    blocks = rows.size // N
    x, to = rows.reshape(blocks, N), out.reshape(blocks, BYTES)
    low, high = np.empty(blocks, np.float32), np.empty(blocks, np.float32)
    levels = np.empty(N, np.uint8)
    eights = levels.view(np.uint64)
    _lows_and_highs(rows.reshape(rows.size), low, high)
    for b in range(blocks):
        d = first_peak_of(x[b], low[b], high[b]) / LOWEST
        iscale = select(d != ZERO, ONE / d, ZERO)
        # ggml's conversion of an infinite quotient to int8 gives 0.
        finite = abs(iscale) < INF
        shift, iscale = select(finite, SHIFT, ZERO), select(finite, iscale, ZERO)
        put_half(to[b], 0, d)
        _round_plain(x[b], iscale, shift, levels)
        put_five_bit(eights, to[b, 2:])


@kernel(ENCODE_WEIGHTED)
def _encode_weighted(rows: Any, importance: Any, out: Any) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s, levels = np.empty(WORKSPACE, np.float32), np.empty(LANES * N, np.uint8)
    eights = levels.view(np.uint64).reshape(LANES, N // 8)
    searched = np.zeros(LANES, np.float32)  # no other scales: the search's integers are the answer
    squares = np.empty(rows.shape[0], np.float32)
    blocks = x.size // N
    for first in range(0, blocks, LANES):
        count = min(LANES, blocks - first)
        _find(x, importance, first, count, squares, s)
        _round(x, first * N, count, searched, s, 0, levels)
        for lane in range(count):
            at = place((first + lane) * BYTES)
            put_half(to, at, s[SCALE + lane])
            put_five_bit(eights[lane], to[at + 2 :])


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    blocks = rows.size // N
    x, source = rows.reshape(blocks, N), data.reshape(blocks, BYTES)
    for b in range(blocks):
        get_five_bit(source[b, 2:], get_half(source[b], 0), MIDDLE, NOTHING, x[b])
