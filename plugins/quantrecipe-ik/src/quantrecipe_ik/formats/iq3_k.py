"""IQ3_K: super-blocks of 16 groups of 16 weights with an odd 5-bit scale each, and two tables of eight uneven values.

    256 weights → f16 d, u16 shifted, u16 signs of scales, 8 × two 4-bit scales, 64 × the lower bits of four indices,
    32 × the third bit of eight indices (110 bytes)
    byte 2 + g / 8      bit g % 8: whether group g takes the shifted values
    byte 4 + g / 8      bit g % 8: whether the scale of group g is negative
    byte 6 + p          scale 2 p in its lower half, scale 2 p + 1 in its upper half
    byte 14 + 32 h + i  bits 2 p and 2 p + 1: of the index of weight 128 h + 32 p + i
    byte 78 + i         bit p: the third bit of the index of weight 32 p + i

    x ≈ ± d * (2 scale + 1) * VALUES[index]

ik_llama.cpp: block_iq3_k, quantize_row_iq3_k_impl, dequantize_row_iq3_k. (Its encoder goes on to move single indices
uphill, but then keeps the scale that it had before.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import DECODE, KernelFormat, Kernels, kernel
from quantrecipe.core.bits import place
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.lanes import nearest_int
from quantrecipe.core.scalars import F32, HALF, I32, ONE, U8, ZERO

from quantrecipe_ik.core.encoders import encoders
from quantrecipe_ik.core.rounding import add_products, pack_three_bits, round_group
from quantrecipe_ik.core.scales import inverse, largest_size
from quantrecipe_ik.core.search import Search
from quantrecipe_ik.core.tables import THREE_BITS
from quantrecipe_ik.core.weights import SUPERBLOCK

__all__ = ["IQ3_K"]

MOST, LARGEST = I32(15), F32(31)
RAISED = F32(1.01)
"""ik_llama.cpp stores d a little larger than the fit says."""

BYTES = 110
SHIFTED, SIGNS, SCALES, INDICES, THIRD = 2, 4, 6, 14, 78
N = 16
GROUPS = SUPERBLOCK // N
VALUES, SECOND = THREE_BITS.values, len(THREE_BITS.plain)
_round = round_group(THREE_BITS, N)


@kernel
def _finish(x: Any, weights: Any, scales: Any, shifted: Any, k: Any, to: Any) -> None:
    """Quantize the scales of each super-block, round its weights with them, fit d to what came out, and pack."""
    indices, sums = np.empty(SUPERBLOCK, np.uint8), np.empty(2, np.float32)
    for block in range(x.size // SUPERBLOCK):
        at = place(block * BYTES)
        size = largest_size(scales, block * GROUPS, GROUPS)
        to[at : at + BYTES] = U8(0)
        if size == ZERO:
            continue
        d = size / LARGEST
        iscale = inverse(d)
        sums[:] = ZERO
        indices[:] = U8(0)  # what a group whose scale rounds to nothing keeps
        for g in range(GROUPS):
            group, first = block * GROUPS + g, block * SUPERBLOCK + g * N
            scale = scales[group]
            stored = min(max(nearest_int(HALF * (iscale * abs(scale) - ONE)), I32(0)), MOST)
            level = F32(I32(2) * stored + I32(1))
            level = -level if scale < ZERO else level
            bit = shifted[group] if scale != ZERO else U8(0)
            to[at + SCALES + g // 2] |= U8(U8(stored) << U8(4 * (g % 2)))
            to[at + SIGNS + g // 8] |= U8((U8(1) if scale < ZERO else U8(0)) << U8(g % 8))
            to[at + SHIFTED + g // 8] |= U8(bit << U8(g % 8))
            dl = d * level
            if dl != ZERO:
                _round(x, first, inverse(dl), bit, indices, g * N)
                add_products(x, weights, first, N, VALUES, bit * SECOND, indices, g * N, level, sums)
        put_half(to, at, RAISED * (sums[0] / sums[1] if sums[1] > ZERO else d))
        pack_three_bits(indices, to, at + INDICES, at + THIRD)


_encode, _encode_weighted = encoders(
    Search(
        table=THREE_BITS, n=N, tries=3, step=2, guarded=True, refit=True, plain="evened square", factor=1.5
    ),
    _finish,
)


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // SUPERBLOCK):
        at = place(block * BYTES)
        d = get_half(source, at)
        for g in range(GROUPS):
            stored = (source[at + SCALES + g // 2] >> U8(4 * (g % 2))) & U8(15)
            negative = (source[at + SIGNS + g // 8] >> U8(g % 8)) & U8(1)
            level = F32(I32(2) * I32(stored) + I32(1))
            scale = d * (-level if negative else level)
            table = SECOND * ((source[at + SHIFTED + g // 8] >> U8(g % 8)) & U8(1))
            first, part = block * SUPERBLOCK + g * N, 16 * (g % 2)
            lower, third = at + INDICES + 32 * (g // 8) + part, at + THIRD + part
            for i in range(N):
                low = (source[lower + i] >> U8(2 * (g // 2 % 4))) & U8(3)
                high = (source[third + i] >> U8(g // 2)) & U8(1)
                x[first + i] = scale * VALUES[table + (low | U8(high << U8(2)))]


class IQ3_K(KernelFormat):  # noqa: N801  # the field's name
    """3.4375 bits, two tables of uneven values, with a 5-bit scale for 16 weights."""

    spec = FormatSpec(
        name="IQ3_K",
        ggml_type=138,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        dialect="ik",
        importance="optional",
        exactness="byte-equal to ik_llama.cpp without fused multiply-add",
        error_bound=0.17,
        fallback="IQ4_NL",
        file_type=139,  # LLAMA_FTYPE_MOSTLY_IQ3_K
        summary="3.44 bits, two tables of uneven values: better than Q3_K at its size",
    )
    kernels = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode)
