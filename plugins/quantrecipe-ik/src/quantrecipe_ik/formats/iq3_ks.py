"""IQ3_KS: groups of 32 weights with a 5-bit scale, two tables of eight uneven values, and one scale for the row.

    row          → f16 d, then its super-blocks
    256 weights → u16 fifth bits of scales and tables, 4 × lower bits of two scales, 64 × the lower bits of four
    indices, 32 × the third bit of eight indices (102 bytes)
    byte 0             bit g: the fifth bit of scale g
    byte 1             bit g: whether group g takes the shifted values
    byte 2 + p         the lower bits of scale p in its lower half, of scale 4 + p in its upper half
    byte 6 + 32 h + i  bits 2 p and 2 p + 1: of the index of weight 128 h + 32 p + i
    byte 70 + i        bit g: the third bit of the index of weight 32 g + i

    x ≈ d * (scale - 16) * VALUES[index]

ik_llama.cpp: block_iq3_ks, quantize_row_iq3_ks_impl, dequantize_row_iq3_ks.
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
from quantrecipe_ik.core.rounding import add_products, pack_three_bits, round_group
from quantrecipe_ik.core.scales import first_largest, inverse, signed_level
from quantrecipe_ik.core.search import Search
from quantrecipe_ik.core.tables import THREE_BITS
from quantrecipe_ik.core.weights import SUPERBLOCK

__all__ = ["IQ3_KS"]

STEPS = 16

BYTES = 102
D = 2
FIFTH, SHIFTED, SCALES, INDICES, THIRD = 0, 1, 2, 6, 70
N = 32
GROUPS = SUPERBLOCK // N
VALUES, SECOND = THREE_BITS.values, len(THREE_BITS.plain)
_round = round_group(THREE_BITS, N)


@kernel
def _finish(x: Any, weights: Any, scales: Any, shifted: Any, k: Any, to: Any) -> None:
    """Quantize the scales of each row, round its weights with them, fit d to what came out, and pack."""
    width, groups = D + k // SUPERBLOCK * BYTES, k // N
    sums, indices = np.empty(2, np.float32), np.empty(SUPERBLOCK, np.uint8)
    for row in range(x.size // k):
        start = place(row * width)
        d = -first_largest(scales, row * groups, groups) / F32(STEPS)
        iscale = inverse(d)
        sums[:] = ZERO
        to[start : start + width] = U8(0)
        for block in range(k // SUPERBLOCK):
            at = start + D + block * BYTES
            for g in range(GROUPS):
                group = row * groups + block * GROUPS + g
                to[at + SHIFTED] |= U8(shifted[group] << U8(g))
                if d != ZERO:
                    level = signed_level(iscale * scales[group], STEPS)
                    stored = U8(level + STEPS)
                    to[at + SCALES + g % 4] |= U8((stored & U8(15)) << U8(4 * (g // 4)))
                    to[at + FIFTH] |= U8((stored >> U8(4)) << U8(g))
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
                pack_three_bits(indices, to, at + INDICES, at + THIRD)
        put_half(to, start, sums[0] / sums[1] if sums[1] > ZERO else d)


_encode, _encode_weighted = encoders(Search(table=THREE_BITS, n=N, tries=5, guarded=True), _finish)


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    k, source, width = rows.shape[1], data.reshape(data.size), data.shape[1]
    for row in range(rows.shape[0]):
        x, start = rows[row], place(row * width)
        d = get_half(source, start)
        for group in range(k // N):
            at, g = start + D + group // GROUPS * BYTES, group % GROUPS
            low = (source[at + SCALES + g % 4] >> U8(4 * (g // 4))) & U8(15)
            high = (source[at + FIFTH] >> U8(g)) & U8(1)
            scale = d * F32(I32(low) + I32(high) * I32(16) - STEPS)
            table = SECOND * ((source[at + SHIFTED] >> U8(g)) & U8(1))
            lower = at + INDICES + N * (g // 4)
            for i in range(N):
                low = (source[lower + i] >> U8(2 * (g % 4))) & U8(3)
                high = (source[at + THIRD + i] >> U8(g)) & U8(1)
                x[group * N + i] = scale * VALUES[table + (low | U8(high << U8(2)))]


class IQ3_KS(KernelFormat):  # noqa: N801  # the field's name
    """3.1875 bits, two tables of uneven values, with a 5-bit scale for 32 weights."""

    spec = FormatSpec(
        name="IQ3_KS",
        ggml_type=156,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        row_meta_bytes=D,
        floats=(StoredFloat(kind="f16", per="row"),),
        dialect="ik",
        importance="optional",
        exactness="byte-equal to ik_llama.cpp without fused multiply-add",
        error_bound=0.2,
        fallback="IQ4_NL",
        file_type=154,  # LLAMA_FTYPE_MOSTLY_IQ3_KS
        summary="3.19 bits, two tables of uneven values, one scale a row: better than IQ3_XXS",
    )
    kernels = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode)
