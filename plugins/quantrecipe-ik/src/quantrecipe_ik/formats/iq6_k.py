"""IQ6_K: super-blocks of 16 groups of 16 weights with an 8-bit scale each, and two tables of 64 uneven values.

    256 weights → f16 d, u16 shifted, 16 × int8 scale, 128 × the lower bits of two indices, 64 × the upper bits of four
    (212 bytes)
    byte 2 + g / 8       bit g % 8: whether group g takes the shifted values
    byte 4 + g           the scale of group g
    byte 20 + 32 p + i   of the index of weight 64 p + i in its lower half, of weight 64 p + 32 + i in its upper half
    byte 148 + 32 h + i  bits 2 p and 2 p + 1: the upper bits of the index of weight 128 h + 32 p + i

    x ≈ d * scale * (CUBIC[index], plus 1 in a shifted group)

A decoder computes the values by a polynomial of third degree; an encoder rounds to the integers next to them.

ik_llama.cpp: block_iq6_k, quantize_row_iq6_k_impl, dequantize_row_iq6_k (A_IQ6K … S_IQ6K).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import DECODE, KernelFormat, Kernels, kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.lanes import nearest_int
from quantrecipe.core.scalars import F32, I8, I32, U8, ZERO

from quantrecipe_ik.core.encoders import encoders
from quantrecipe_ik.core.rounding import add_products, round_group
from quantrecipe_ik.core.scales import first_largest, inverse
from quantrecipe_ik.core.search import Search
from quantrecipe_ik.core.tables import SIX_BITS
from quantrecipe_ik.core.weights import SUPERBLOCK

__all__ = ["IQ6_K"]

MOST = 127

BYTES = 212
SHIFTED, SCALES, INDICES, UPPER = 2, 4, 20, 148
N = 16
GROUPS = SUPERBLOCK // N
VALUES, SECOND = SIX_BITS.values, len(SIX_BITS.plain)
_q = np.arange(SECOND, dtype=F32)
_CUBIC = F32(-127) + _q * (F32(6.2568) + _q * (F32(-0.11218) + _q * F32(0.0011972)))
DECODED = np.concatenate([_CUBIC, _CUBIC + F32(1)])
_round = round_group(SIX_BITS, N)


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
        d = -peak / F32(MOST)
        iscale = inverse(d)
        sums[:] = ZERO
        indices[:] = U8(0)  # what a group whose scale rounds to nothing keeps
        for g in range(GROUPS):
            group, first = block * GROUPS + g, block * SUPERBLOCK + g * N
            level = min(max(nearest_int(iscale * scales[group]), I32(-MOST)), I32(MOST))
            dl = d * F32(level)
            if dl != ZERO:
                _round(x, first, inverse(dl), shifted[group], indices, g * N)
                add_products(
                    x, weights, first, N, VALUES, shifted[group] * SECOND, indices, g * N, F32(level), sums
                )
            to[at + SCALES + g] = U8(level & I32(255))
            to[at + SHIFTED + g // 8] |= U8(shifted[group] << U8(g % 8))
        put_half(to, at, sums[0] / sums[1] if sums[1] > ZERO else d)
        for p in range(SUPERBLOCK // 64):
            for i in range(trips(32, to)):
                low, high = indices[64 * p + i], indices[64 * p + 32 + i]
                to[at + INDICES + 32 * p + i] = (low & U8(15)) | U8(high << U8(4))
                upper = (low >> U8(4)) | U8((high >> U8(4)) << U8(2))
                to[at + UPPER + 32 * (p // 2) + i] |= U8(upper << U8(4 * (p % 2)))


_encode, _encode_weighted = encoders(
    Search(table=SIX_BITS, n=N, tries=5, refit=True, plain="evened square"), _finish
)


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // SUPERBLOCK):
        at = place(block * BYTES)
        d = get_half(source, at)
        for g in range(GROUPS):
            table = SECOND * ((source[at + SHIFTED + g // 8] >> U8(g % 8)) & U8(1))
            scale = d * F32(I8(source[at + SCALES + g]))
            first, half, bits = block * SUPERBLOCK + g * N, U8(4 * (g // 2 % 2)), U8(2 * (g // 2 % 4))
            lower = at + INDICES + 32 * (g // 4) + 16 * (g % 2)
            upper = at + UPPER + 32 * (g // 8) + 16 * (g % 2)
            for i in range(N):
                index = ((source[lower + i] >> half) & U8(15)) | U8(
                    ((source[upper + i] >> bits) & U8(3)) << U8(4)
                )
                x[first + i] = scale * DECODED[table + index]


class IQ6_K(KernelFormat):  # noqa: N801  # the field's name
    """6.625 bits, two tables of uneven values, with an 8-bit scale for 16 weights."""

    spec = FormatSpec(
        name="IQ6_K",
        ggml_type=141,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        dialect="ik",
        importance="optional",
        exactness="byte-equal to ik_llama.cpp without fused multiply-add",
        error_bound=0.02,
        fallback="Q8_0",
        file_type=142,  # LLAMA_FTYPE_MOSTLY_IQ6_K
        summary="6.625 bits, two tables of uneven values: hard to tell from the original",
    )
    kernels = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode)
