"""IQ4_K: super-blocks of 16 groups of 16 weights with a 6-bit scale each, and two tables of sixteen uneven values.

    256 weights → f16 d, u16 shifted, 4 × upper bits of 4 scales, 8 × lower bits of 2 scales, 128 × two 4-bit indices
    (144 bytes)
    byte 2 + g / 8      bit g % 8: whether group g takes the shifted values
    byte 4 + p          the upper bits of scale 4 p + i in bits 2 i and 2 i + 1
    byte 8 + p          the lower bits of scale 2 p in its lower half, of scale 2 p + 1 in its upper half
    byte 16 + 16 p + i  the index of weight 32 p + i in its lower half, of weight 32 p + 16 + i in its upper half

    x ≈ d * (scale - 32) * VALUES[index]

ik_llama.cpp: block_iq4_k, quantize_row_iq4_k_impl_bs16, dequantize_row_iq4_k.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import DECODE, KernelFormat, Kernels, kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.scalars import F32, I32, U8, ZERO

from quantrecipe_ik.core.encoders import encoders
from quantrecipe_ik.core.rounding import add_products, round_group
from quantrecipe_ik.core.scales import first_largest, inverse, signed_level
from quantrecipe_ik.core.search import Search
from quantrecipe_ik.core.tables import FOUR_BITS
from quantrecipe_ik.core.weights import SUPERBLOCK

__all__ = ["IQ4_K"]

STEPS = 32

BYTES = 144
SHIFTED, UPPER, LOWER, INDICES = 2, 4, 8, 16
N = 16
GROUPS = SUPERBLOCK // N
VALUES, SECOND = FOUR_BITS.values, len(FOUR_BITS.plain)
_round = round_group(FOUR_BITS, N)


@kernel
def _finish(x: Any, weights: Any, scales: Any, shifted: Any, k: Any, to: Any) -> None:
    """Quantize the scales of each super-block, round its weights with them, fit d to what came out, and pack."""
    indices, sums = np.empty(SUPERBLOCK, np.uint8), np.empty(2, np.float32)
    for block in range(x.size // SUPERBLOCK):
        at = place(block * BYTES)
        d = -first_largest(scales, block * GROUPS, GROUPS) / F32(STEPS)
        iscale = inverse(d)
        sums[:] = ZERO
        to[at : at + INDICES] = U8(0)
        for g in range(GROUPS):
            group, first = block * GROUPS + g, block * SUPERBLOCK + g * N
            level = signed_level(iscale * scales[group], STEPS)
            _round(x, first, inverse(d * F32(level)), shifted[group], indices, g * N)
            add_products(
                x, weights, first, N, VALUES, shifted[group] * SECOND, indices, g * N, F32(level), sums
            )
            stored = U8(level + STEPS)
            to[at + LOWER + g // 2] |= U8((stored & U8(15)) << U8(4 * (g % 2)))
            to[at + UPPER + g // 4] |= U8((stored >> U8(4)) << U8(2 * (g % 4)))
            to[at + SHIFTED + g // 8] |= U8(shifted[group] << U8(g % 8))
        put_half(to, at, sums[0] / sums[1] if sums[1] > ZERO else d)
        for p in range(SUPERBLOCK // 32):
            for i in range(trips(16, to)):
                to[at + INDICES + 16 * p + i] = indices[32 * p + i] | U8(indices[32 * p + 16 + i] << U8(4))


_encode, _encode_weighted = encoders(Search(table=FOUR_BITS, n=N, tries=7), _finish)


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
            first, indices, half = block * SUPERBLOCK + g * N, at + INDICES + 16 * (g // 2), U8(4 * (g % 2))
            for i in range(N):
                x[first + i] = scale * VALUES[table + ((source[indices + i] >> half) & U8(15))]


class IQ4_K(KernelFormat):  # noqa: N801  # the field's name
    """4.5 bits, two tables of uneven values, with a 6-bit scale for 16 weights."""

    spec = FormatSpec(
        name="IQ4_K",
        ggml_type=139,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        dialect="ik",
        importance="optional",
        exactness="byte-equal to ik_llama.cpp without fused multiply-add",
        error_bound=0.08,
        fallback="Q5_0",
        file_type=140,  # LLAMA_FTYPE_MOSTLY_IQ4_K
        summary="4.5 bits, two tables of uneven values: better than Q4_K at its size",
    )
    kernels = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode)
