"""Eight scales and eight minima of 6 bits in 12 bytes, and the two float16 that they multiply: Q4_K's and Q5_K's head.

    d     f16    scale of the scales
    dmin  f16    scale of the minima
    12 bytes:    byte 0…3    s0…s3 in bits 0-5, upper two bits of s4…s7 in bits 6-7
                 byte 4…7    m0…m3 in bits 0-5, upper two bits of m4…m7 in bits 6-7
                 byte 8…11   lower four bits of s4…s7, then of m4…m7

ggml: block_q4_K, get_scale_min_k4.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from quantrecipe.core.half import put_half
from quantrecipe.core.jit import kernel
from quantrecipe.core.lanes import LANES, nearest_int
from quantrecipe.core.scale_positive import COMMON, COUNTS, IN, INTEGERS, positive_scale_search
from quantrecipe.core.superblock import MINIMA, SCALES, SUMS

__all__ = ["HEAD", "head_plain", "head_weighted", "minimum_of", "scale_of"]

F32 = np.float32
I32 = np.int32
U8 = np.uint8
ZERO = F32(0)

HEAD = 16
"""Bytes of d, dmin and the packed scales and minima."""
GROUPS = 8
TOP = 63
TOP_F = F32(TOP)

_search = positive_scale_search(GROUPS, TOP)


@kernel
def scale_of(data: Any, at: Any, i: Any) -> Any:
    """The i-th scale of the 12 bytes at a place, 0 to 63, as float32."""
    if i < 4:
        return F32(data[at + i] & U8(63))
    return F32((data[at + i + 4] & U8(15)) | ((data[at + i - 4] >> U8(6)) << U8(4)))


@kernel
def minimum_of(data: Any, at: Any, i: Any) -> Any:
    """The i-th minimum of the 12 bytes at a place, 0 to 63, as float32."""
    if i < 4:
        return F32(data[at + i + 4] & U8(63))
    return F32((data[at + i + 4] >> U8(4)) | ((data[at + i] >> U8(6)) << U8(4)))


@kernel
def put_pair(out: Any, at: Any, i: Any, scale: Any, minimum: Any) -> None:
    """Store the i-th scale and minimum, ints of a byte, in order from 0; upper bits go the way they go in ggml."""
    if i < 4:
        out[at + i] = U8(scale)
        out[at + i + 4] = U8(minimum)
    else:
        out[at + i + 4] = U8((scale & 15) | ((minimum & 15) << 4))
        out[at + i - 4] |= U8(((scale >> 4) << 6) & 255)
        out[at + i] |= U8(((minimum >> 4) << 6) & 255)


@kernel
def head_plain(found: Any, lane: Any, out: Any, at: Any) -> None:
    """Write the 16 bytes for one lane of `found`: the largest scale and minimum become 63."""
    top_scale, top_minimum = ZERO, ZERO
    for i in range(GROUPS):
        scale = found[(SCALES * GROUPS + i) * LANES + lane]
        minimum = found[(MINIMA * GROUPS + i) * LANES + lane]
        top_scale = scale if scale > top_scale else top_scale
        top_minimum = minimum if minimum > top_minimum else top_minimum
    per_scale = TOP_F / top_scale if top_scale > ZERO else ZERO
    per_minimum = TOP_F / top_minimum if top_minimum > ZERO else ZERO
    put_half(out, at, top_scale / TOP_F)
    put_half(out, at + 2, top_minimum / TOP_F)
    for i in range(GROUPS):
        scale = nearest_int(per_scale * found[(SCALES * GROUPS + i) * LANES + lane]) & 255
        minimum = nearest_int(per_minimum * found[(MINIMA * GROUPS + i) * LANES + lane]) & 255
        put_pair(out, at + 4, i, min(scale, TOP), min(minimum, TOP))


@kernel
def head_weighted(found: Any, count: Any, limit: Any, t: Any, out: Any, at: Any, step: Any) -> None:
    """Write the 16 bytes for each of count lanes of `found`, at `at`, `at + step`, …: the best common scales.

    t is a table of `scale_positive.py`. Integers above `limit` become it.
    """
    for part in range(2):  # SCALES, then MINIMA
        for i in range(GROUPS):
            for j in range(LANES):
                lane = min(j, count - 1)
                t[IN + i * LANES + j] = found[((SCALES if part == 0 else MINIMA) * GROUPS + i) * LANES + lane]
                t[COUNTS + i * LANES + j] = found[(SUMS * GROUPS + i) * LANES + lane]
        _search(t)
        for j in range(count):
            to = at + j * step
            put_half(out, to + 2 * part, t[COMMON + j])
            # Sixteen integers of a byte each wait here until both halves are known.
            for i in range(GROUPS):
                found[((SCALES if part == 0 else MINIMA) * GROUPS + i) * LANES + j] = t[
                    INTEGERS + i * LANES + j
                ]
    for j in range(count):
        for i in range(GROUPS):
            scale = I32(found[(SCALES * GROUPS + i) * LANES + j])
            minimum = I32(found[(MINIMA * GROUPS + i) * LANES + j])
            put_pair(out, at + j * step + 4, i, min(scale, limit), min(minimum, limit))
