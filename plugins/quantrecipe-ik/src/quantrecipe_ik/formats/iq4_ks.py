"""IQ4_KS: groups of 32 weights with a 7-bit scale, two tables of sixteen uneven values, and one scale for the row.

    row          → f32 d, then its super-blocks
    256 weights → 8 × u8 scale and table, 128 × two 4-bit indices (136 bytes)
    byte g              of group g: bits 1 to 7 the scale, bit 0 whether it takes the shifted values
    byte 8 + 16 g + i   the index of weight 32 g + i in its lower half, of weight 32 g + 16 + i in its upper half

    x ≈ d * (2 scale - 127) * VALUES[index]

ik_llama.cpp: block_iq4_ks, quantize_row_iq4_k_impl_bs128, dequantize_row_iq4_ks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import DECODE, KernelFormat, Kernels, kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.scalars import F32, I32, U8, ZERO

from quantrecipe_ik.core.encoders import encoders
from quantrecipe_ik.core.rounding import round_group
from quantrecipe_ik.core.scales import get_float, inverse, largest_size, odd_level, put_float
from quantrecipe_ik.core.search import Search
from quantrecipe_ik.core.tables import FOUR_BITS
from quantrecipe_ik.core.weights import SUPERBLOCK

__all__ = ["IQ4_KS"]

MOST = 127

BYTES = 136
D = 4
SCALES, INDICES = 0, 8
N = 32
GROUPS = SUPERBLOCK // N
VALUES, SECOND = FOUR_BITS.values, len(FOUR_BITS.plain)
_round = round_group(FOUR_BITS, N)


@kernel
def _finish(x: Any, weights: Any, scales: Any, shifted: Any, k: Any, to: Any) -> None:
    """Quantize the scales of each row, round its weights with them, fit d to what came out, and pack."""
    width, groups = D + k // SUPERBLOCK * BYTES, k // N
    sums, indices = np.empty(2, np.float32), np.empty(N, np.uint8)
    for row in range(x.size // k):
        start = place(row * width)
        d = largest_size(scales, row * groups, groups) / F32(MOST)
        iscale = inverse(d)
        sums[:] = ZERO
        to[start : start + width] = U8(0)
        for g in range(groups):
            group, at = row * groups + g, start + D + g // GROUPS * BYTES
            to[at + SCALES + g % GROUPS] = shifted[group]
            if d != ZERO:
                level = odd_level(iscale * scales[group])
                to[at + SCALES + g % GROUPS] |= U8(level + MOST)
                _round(x, group * N, inverse(d * F32(level)), shifted[group], indices, 0)
                _add_pairs(x, weights, group * N, shifted[group] * SECOND, indices, F32(level), sums)
                for i in range(trips(N // 2, to)):
                    packed = indices[i] | U8(indices[N // 2 + i] << U8(4))
                    to[at + INDICES + N // 2 * (g % GROUPS) + i] = packed
        put_float(to, start, sums[0] / sums[1] if sums[1] > ZERO else d)


@kernel
def _add_pairs(x: Any, weights: Any, at: Any, first: Any, indices: Any, level: Any, sums: Any) -> None:
    """As `add_products`, but the products of weights i and 16 + i are added up first."""
    at, first = place(at), place(first)
    sxl, sl2 = sums[0], sums[1]
    for i in range(N // 2):
        w, v, q = weights[at + i], x[at + i], VALUES[first + indices[i]] * level
        j = N // 2 + i
        w2, v2, q2 = weights[at + j], x[at + j], VALUES[first + indices[j]] * level
        sxl += w * q * v + w2 * q2 * v2
        sl2 += w * q * q + w2 * q2 * q2
    sums[0], sums[1] = sxl, sl2


_encode, _encode_weighted = encoders(Search(table=FOUR_BITS, n=N, tries=7), _finish)


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    k, source, width = rows.shape[1], data.reshape(data.size), data.shape[1]
    for row in range(rows.shape[0]):
        x, start = rows[row], place(row * width)
        d = get_float(source, start)
        for g in range(k // N):
            at = start + D + g // GROUPS * BYTES
            stored = source[at + SCALES + g % GROUPS]
            scale, table = d * F32(I32(stored & U8(254)) - MOST), SECOND * (stored & U8(1))
            first, indices = g * N, at + INDICES + N // 2 * (g % GROUPS)
            for i in range(N // 2):
                q = source[indices + i]
                x[first + i] = scale * VALUES[table + (q & U8(15))]
                x[first + N // 2 + i] = scale * VALUES[table + (q >> U8(4))]


class IQ4_KS(KernelFormat):  # noqa: N801  # the field's name
    """4.25 bits, two tables of uneven values, with a 7-bit scale for 32 weights."""

    spec = FormatSpec(
        name="IQ4_KS",
        ggml_type=144,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        row_meta_bytes=D,
        floats=(StoredFloat(kind="f32", per="row"),),
        dialect="ik",
        importance="optional",
        exactness="byte-equal to ik_llama.cpp without fused multiply-add",
        error_bound=0.1,
        fallback="IQ4_NL",
        file_type=145,  # LLAMA_FTYPE_MOSTLY_IQ4_KS
        summary="4.25 bits, two tables of uneven values, one scale a row: better than IQ4_XS at its size",
    )
    kernels = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode)
