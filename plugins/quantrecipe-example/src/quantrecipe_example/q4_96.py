"""Q4_96: a scale for 96 weights.

    96 weights → f16 d, 48 × two 4-bit q (50 bytes)
    byte 2 + i holds q of weight i in its lower half, of weight 48 + i in its upper half

    x ≈ d * (q - 8)

d is the one of TRIES scales that has the least weighted error. All lie near a -8th of the weight that is largest in
magnitude, which so is met nearly, and whose side has one step more.
"""

from __future__ import annotations

import numpy as np
from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import DECODE, ENCODE, ENCODE_WEIGHTED, KernelFormat, Kernels, kernel
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.lanes import LANES, select
from quantrecipe.core.scalars import F32, HALF, I32, INF, ONE, U8, ZERO, Bytes, Float, Floats, Int

__all__ = ["Q4_96"]

MIDDLE, TOP = F32(8), F32(15)
LARGEST_SCALE = F32(65504)  # of float16

N, BYTES = 96, 50
TRIES, FIRST_TRY, STEP = (
    13,
    F32(6.5),
    F32(0.25),
)  # the largest weight gets code 8 - 6.5, then 8 - 6.75, … 8 - 9.5

# The workspace: rows of LANES numbers, one for each of the blocks that are searched side by side.
X, WEIGHT = 0, N * LANES  # 96 rows each: weight i of every block, and how much it counts
PEAK, SCALE, BEST, LEAST, LOSS = (2 * N * LANES + row * LANES for row in range(5))
SIZE = LOSS + LANES


@kernel(ENCODE)
def _encode(rows: Floats, out: Bytes) -> None:
    _search(rows, np.ones(rows.shape[1], np.float32), out)


@kernel(ENCODE_WEIGHTED)
def _encode_weighted(rows: Floats, importance: Floats, out: Bytes) -> None:
    _search(rows, importance, out)


@kernel
def _search(rows: Floats, importance: Floats, out: Bytes) -> None:
    """Blocks don't depend on each other, so LANES of them go side by side: every loop over lanes is vectorised."""
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s = np.zeros(SIZE, np.float32)
    blocks, in_row = x.size // N, rows.shape[1] // N
    for start in range(0, blocks, LANES):
        count = min(LANES, blocks - start)
        for lane in range(count):
            first, column = (start + lane) * N, (start + lane) % in_row * N
            for i in range(N):
                s[X + i * LANES + lane] = x[first + i]
                s[WEIGHT + i * LANES + lane] = importance[column + i]
        _find_peaks(s)
        for attempt in range(TRIES):
            _try_scale(s, -(FIRST_TRY + F32(attempt) * STEP))
        for lane in range(count):
            _put_block(s, lane, to, (start + lane) * BYTES)


@kernel
def _find_peaks(s: Floats) -> None:
    """The weight of each block that is largest in magnitude, the first of them, with its sign."""
    for lane in range(LANES):
        s[PEAK + lane] = ZERO
        s[LEAST + lane] = INF
    for i in range(N):
        for lane in range(LANES):
            value, peak = s[X + i * LANES + lane], s[PEAK + lane]
            s[PEAK + lane] = select(abs(value) > abs(peak), value, peak)


@kernel
def _try_scale(s: Floats, steps: Float) -> None:
    """Where the scale by which the peak is so many steps from zero has no more error, it is the best so far."""
    for lane in range(LANES):
        s[SCALE + lane] = max(-LARGEST_SCALE, min(LARGEST_SCALE, s[PEAK + lane] / steps))
        s[LOSS + lane] = ZERO
    for i in range(N):
        for lane in range(LANES):
            value, scale = s[X + i * LANES + lane], s[SCALE + lane]
            inverse = select(scale != ZERO, ONE / scale, ZERO)
            off = value - scale * (F32(_code(value * inverse)) - MIDDLE)
            s[LOSS + lane] += s[WEIGHT + i * LANES + lane] * off * off
    for lane in range(LANES):
        better = s[LOSS + lane] <= s[LEAST + lane]  # and not <: the loss of huge weights is infinite
        s[BEST + lane] = select(better, s[SCALE + lane], s[BEST + lane])
        s[LEAST + lane] = select(better, s[LOSS + lane], s[LEAST + lane])


@kernel
def _put_block(s: Floats, lane: Int, to: Bytes, at: Int) -> None:
    put_half(to, at, s[BEST + lane])
    d = get_half(to, at)  # as it is stored, so that the codes make up for its rounding
    inverse = select(d != ZERO, ONE / d, ZERO)
    for i in range(N // 2):
        low = _code(s[X + i * LANES + lane] * inverse)
        high = _code(s[X + (N // 2 + i) * LANES + lane] * inverse)
        to[at + 2 + i] = U8(low) | U8(U8(high) << U8(4))


@kernel
def _code(steps: Float) -> Int:
    """The code nearest to a weight that is so many steps from zero."""
    return I32(max(ZERO, min(TOP, steps + MIDDLE + HALF)))


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // N):
        first, at = block * N, block * BYTES
        d = get_half(source, at)
        for i in range(N // 2):
            q = source[at + 2 + i]
            x[first + i] = (F32(q & U8(15)) - MIDDLE) * d
            x[first + N // 2 + i] = (F32(q >> U8(4)) - MIDDLE) * d


class Q4_96(KernelFormat):  # noqa: N801  # formats are named as recipes write them
    """4.17 bits, for rows that 256 doesn't divide."""

    spec = FormatSpec(
        name="Q4_96",
        ggml_type=1001,
        block=N,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        dialect="example",
        importance="optional",
        uniform_is_none=True,
        exactness="the same bytes on every machine",
        error_bound=0.13,
        fallback="Q4_0",
        summary="4 bits with a scale for 96 weights: for rows of 384, 1152 or 2880",
    )
    kernels = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode)
