"""IQ5_K: super-blocks of 16 groups of 16 weights with a 6-bit scale each, and two tables of 32 uneven values.

    256 weights → f16 d, u16 shifted, 4 × upper bits of 4 scales, 8 × lower bits of 2 scales, 128 × the lower bits of
    two indices, 32 × the fifth bit of eight indices (176 bytes)
    byte 2 + g / 8       bit g % 8: whether group g takes the shifted values
    byte 4 + p           the upper bits of scale 4 p + i in bits 2 i and 2 i + 1
    byte 8 + p           the lower bits of scale 2 p in its lower half, of scale 2 p + 1 in its upper half
    byte 16 + 32 p + i   of the index of weight 64 p + i in its lower half, of weight 64 p + 32 + i in its upper half
    byte 144 + i         bit p: the fifth bit of the index of weight 32 p + i

    x ≈ d * (scale - 32) * VALUES[index]

ik_llama.cpp: block_iq5_k, quantize_row_iq5_k_impl, dequantize_row_iq5_k.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import DECODE, KernelFormat, Kernels, kernel
from quantrecipe.core.bits import place
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.scalars import F32, I32, U8, ZERO

from quantrecipe_ik.core.encoders import encoders
from quantrecipe_ik.core.rounding import add_products, pack_five_bits, round_group
from quantrecipe_ik.core.scales import first_largest, inverse, signed_level
from quantrecipe_ik.core.search import Search
from quantrecipe_ik.core.tables import FIVE_BITS
from quantrecipe_ik.core.weights import SUPERBLOCK

__all__ = ["IQ5_K"]

STEPS = 32

BYTES = 176
SHIFTED, UPPER, LOWER, INDICES, FIFTH = 2, 4, 8, 16, 144
N = 16
GROUPS = SUPERBLOCK // N
VALUES, SECOND = FIVE_BITS.values, len(FIVE_BITS.plain)
_round = round_group(FIVE_BITS, N)


@kernel
def _finish(x: Any, weights: Any, scales: Any, shifted: Any, k: Any, to: Any) -> None:
    """Quantize the scales of each super-block, round its weights with them, fit d to what came out, and pack."""
    indices, sums = np.empty(SUPERBLOCK, np.uint8), np.empty(2, np.float32)
    for block in range(x.size // SUPERBLOCK):
        at = place(block * BYTES)
        peak = first_largest(scales, block * GROUPS, GROUPS)
        to[at : at + BYTES] = U8(0)
        if peak == ZERO:
            continue
        d = -peak / F32(STEPS)
        iscale = inverse(d)
        sums[:] = ZERO
        indices[:] = U8(0)  # what a group whose scale rounds to nothing keeps
        for g in range(GROUPS):
            group, first = block * GROUPS + g, block * SUPERBLOCK + g * N
            level = signed_level(iscale * scales[group], STEPS)
            dl = d * F32(level)
            if dl != ZERO:
                _round(x, first, inverse(dl), shifted[group], indices, g * N)
                add_products(
                    x, weights, first, N, VALUES, shifted[group] * SECOND, indices, g * N, F32(level), sums
                )
            stored = U8(level + STEPS)
            to[at + LOWER + g // 2] |= U8((stored & U8(15)) << U8(4 * (g % 2)))
            to[at + UPPER + g // 4] |= U8((stored >> U8(4)) << U8(2 * (g % 4)))
            to[at + SHIFTED + g // 8] |= U8(shifted[group] << U8(g % 8))
        put_half(to, at, sums[0] / sums[1] if sums[1] > ZERO else d)
        pack_five_bits(indices, to, at + INDICES, at + FIFTH)


_encode, _encode_weighted = encoders(
    Search(table=FIVE_BITS, n=N, tries=5, refit=True, plain="evened square"), _finish
)


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // SUPERBLOCK):
        at = place(block * BYTES)
        d = get_half(source, at)
        for g in range(GROUPS):
            low = (source[at + LOWER + g // 2] >> U8(4 * (g % 2))) & U8(15)
            high = (source[at + UPPER + g // 4] >> U8(2 * (g % 4))) & U8(3)
            table = SECOND * ((source[at + SHIFTED + g // 8] >> U8(g % 8)) & U8(1))
            scale = d * F32(I32(low) + I32(high) * I32(16) - STEPS)
            first, half, bit = block * SUPERBLOCK + g * N, U8(4 * (g // 2 % 2)), U8(g // 2)
            lower, fifth = at + INDICES + 32 * (g // 4) + 16 * (g % 2), at + FIFTH + 16 * (g % 2)
            for i in range(N):
                index = ((source[lower + i] >> half) & U8(15)) | U8(
                    ((source[fifth + i] >> bit) & U8(1)) << U8(4)
                )
                x[first + i] = scale * VALUES[table + index]


class IQ5_K(KernelFormat):  # noqa: N801  # the field's name
    """5.5 bits, two tables of uneven values, with a 6-bit scale for 16 weights."""

    spec = FormatSpec(
        name="IQ5_K",
        ggml_type=140,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        dialect="ik",
        importance="optional",
        exactness="byte-equal to ik_llama.cpp without fused multiply-add",
        error_bound=0.04,
        fallback="Q6_0",
        file_type=141,  # LLAMA_FTYPE_MOSTLY_IQ5_K
        summary="5.5 bits, two tables of uneven values: better than Q5_K at its size",
    )
    kernels = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode)
