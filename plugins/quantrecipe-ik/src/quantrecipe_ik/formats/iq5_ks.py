"""IQ5_KS: groups of 32 weights with a 7-bit scale, two tables of 32 uneven values, and one scale for the row.

    row          → f32 d, then its super-blocks
    256 weights → 8 × u8 scale and table, 128 × the lower bits of two indices, 32 × the fifth bit of eight (168 bytes)
    byte g              of group g: bits 1 to 7 the scale, bit 0 whether it takes the shifted values
    byte 8 + 32 p + i   of the index of weight 64 p + i in its lower half, of weight 64 p + 32 + i in its upper half
    byte 136 + i        bit g: the fifth bit of the index of weight 32 g + i

    x ≈ d * (2 scale - 127) * VALUES[index]

ik_llama.cpp: block_iq5_ks, quantize_row_iq5_ks_impl, dequantize_row_iq5_ks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import DECODE, KernelFormat, Kernels, kernel
from quantrecipe.core.bits import place
from quantrecipe.core.scalars import F32, I32, U8, ZERO

from quantrecipe_ik.core.encoders import encoders
from quantrecipe_ik.core.rounding import add_products, pack_five_bits, round_group
from quantrecipe_ik.core.scales import get_float, inverse, largest_size, odd_level, put_float
from quantrecipe_ik.core.search import Search
from quantrecipe_ik.core.tables import FIVE_BITS
from quantrecipe_ik.core.weights import SUPERBLOCK

__all__ = ["IQ5_KS"]

MOST = 127

BYTES = 168
D = 4
SCALES, INDICES, FIFTH = 0, 8, 136
N = 32
GROUPS = SUPERBLOCK // N
VALUES, SECOND = FIVE_BITS.values, len(FIVE_BITS.plain)
_round = round_group(FIVE_BITS, N)


@kernel
def _finish(x: Any, weights: Any, scales: Any, shifted: Any, k: Any, to: Any) -> None:
    """Quantize the scales of each row, round its weights with them, fit d to what came out, and pack."""
    width, groups = D + k // SUPERBLOCK * BYTES, k // N
    sums, indices = np.empty(2, np.float32), np.empty(SUPERBLOCK, np.uint8)
    for row in range(x.size // k):
        start = place(row * width)
        d = largest_size(scales, row * groups, groups) / F32(MOST)
        iscale = inverse(d)
        sums[:] = ZERO
        to[start : start + width] = U8(0)
        for block in range(k // SUPERBLOCK):
            at = start + D + block * BYTES
            for g in range(GROUPS):
                group = row * groups + block * GROUPS + g
                to[at + SCALES + g] = shifted[group]
                if d != ZERO:
                    level = odd_level(iscale * scales[group])
                    to[at + SCALES + g] |= U8(level + MOST)
                    _round(x, group * N, inverse(d * F32(level)), shifted[group], indices, g * N)
                    add_products(
                        x,
                        weights,
                        group * N,
                        N,
                        VALUES,
                        shifted[group] * SECOND,
                        indices,
                        g * N,
                        F32(level),
                        sums,
                    )
            if d != ZERO:
                pack_five_bits(indices, to, at + INDICES, at + FIFTH)
        put_float(to, start, sums[0] / sums[1] if sums[1] > ZERO else d)


_encode, _encode_weighted = encoders(Search(table=FIVE_BITS, n=N, tries=5), _finish)


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    k, source, width = rows.shape[1], data.reshape(data.size), data.shape[1]
    for row in range(rows.shape[0]):
        x, start = rows[row], place(row * width)
        d = get_float(source, start)
        for group in range(k // N):
            at, g = start + D + group // GROUPS * BYTES, group % GROUPS
            stored = source[at + SCALES + g]
            scale, table = d * F32(I32(stored & U8(254)) - MOST), SECOND * (stored & U8(1))
            lower, half, bit = at + INDICES + N * (g // 2), U8(4 * (g % 2)), U8(g)
            for i in range(N):
                q = source[lower + i] >> half
                fifth = (source[at + FIFTH + i] >> bit) & U8(1)
                x[group * N + i] = scale * VALUES[table + ((q & U8(15)) | U8(fifth << U8(4)))]


class IQ5_KS(KernelFormat):  # noqa: N801  # the field's name
    """5.25 bits, two tables of uneven values, with a 7-bit scale for 32 weights."""

    spec = FormatSpec(
        name="IQ5_KS",
        ggml_type=152,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        row_meta_bytes=D,
        floats=(StoredFloat(kind="f32", per="row"),),
        dialect="ik",
        importance="optional",
        exactness="byte-equal to ik_llama.cpp without fused multiply-add",
        error_bound=0.05,
        fallback="Q5_0",
        file_type=150,  # LLAMA_FTYPE_MOSTLY_IQ5_KS
        summary="5.25 bits, two tables of uneven values, one scale a row: better than Q5_K, and smaller",
    )
    kernels = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode)
