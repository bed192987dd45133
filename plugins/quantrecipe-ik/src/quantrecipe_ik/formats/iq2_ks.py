"""IQ2_KS: groups of 32 weights with a 5-bit scale, two tables of four uneven values, and one scale for the row.

    row          → f16 d, then its super-blocks
    256 weights → u16 tables and fifth bits of scales, 4 × lower bits of two scales, 64 × four 2-bit indices (70 bytes)
    byte 0             bit g: whether group g takes the shifted values
    byte 1             bit g: the fifth bit of scale g
    byte 2 + p         the lower bits of scale 2 p in its lower half, of scale 2 p + 1 in its upper half
    byte 6 + 32 h + i  bits 2 p and 2 p + 1: the index of weight 128 h + 32 p + i

    x ≈ d * (scale - 16) * VALUES[index]

ik_llama.cpp: block_iq2_ks, quantize_row_iq2_ks_impl (its thorough search, not the quick one that its llama-quantize
takes unless told otherwise), dequantize_row_iq2_ks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import DECODE, ENCODE, ENCODE_WEIGHTED, KernelFormat, Kernels, kernel
from quantrecipe.core.bits import place
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.scalars import F32, I32, U8, ZERO

from quantrecipe_ik.core.partitions import find_plain, find_weighted
from quantrecipe_ik.core.rounding import add_products, pack_two_bits, round_group
from quantrecipe_ik.core.scale_of_scales import fit_scales
from quantrecipe_ik.core.scales import inverse
from quantrecipe_ik.core.tables import TWO_BITS
from quantrecipe_ik.core.weights import SUPERBLOCK

__all__ = ["IQ2_KS"]

STEPS = 16
RAISED = F32(1.03)
"""ik_llama.cpp stores d a little larger than the fit says."""

BYTES = 70
D = 2
SHIFTED, FIFTH, SCALES, INDICES = 0, 1, 2, 6
N = 32
GROUPS = SUPERBLOCK // N
VALUES, SECOND = TWO_BITS.values, len(TWO_BITS.plain)
_MOST = (3 * N // 4, N // 4)
_find, _find_weighted, _round = find_plain(N, _MOST), find_weighted(N, _MOST), round_group(TWO_BITS, N)


@kernel(ENCODE)
def _encode(rows: Any, out: Any) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    groups, weights = x.size // N, np.empty_like(x)
    scales, counts, shifted = (
        np.empty(groups, np.float32),
        np.empty(groups, np.float32),
        np.empty(groups, np.uint8),
    )
    _find(x, weights, scales, counts, shifted)
    _finish(x, weights, scales, counts, shifted, rows.shape[1], to)


@kernel(ENCODE_WEIGHTED)
def _encode_weighted(rows: Any, importance: Any, out: Any) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    groups, weights = x.size // N, np.empty_like(x)
    scales, counts, shifted = (
        np.empty(groups, np.float32),
        np.empty(groups, np.float32),
        np.empty(groups, np.uint8),
    )
    _find_weighted(x, importance, weights, scales, counts, shifted)
    _finish(x, weights, scales, counts, shifted, rows.shape[1], to)


@kernel
def _finish(x: Any, weights: Any, scales: Any, counts: Any, shifted: Any, k: Any, to: Any) -> None:
    """Quantize the scales of each row, round its weights with them, fit d to what came out, and pack."""
    width, groups = D + k // SUPERBLOCK * BYTES, k // N
    sums, indices, levels = (
        np.empty(2, np.float32),
        np.empty(SUPERBLOCK, np.uint8),
        np.empty(groups, np.int32),
    )
    for row in range(x.size // k):
        start = place(row * width)
        d = fit_scales(scales, counts, row * groups, groups, STEPS, levels)
        sums[:] = ZERO
        to[start : start + width] = U8(0)
        for block in range(k // SUPERBLOCK):
            at = start + D + block * BYTES
            indices[:] = U8(0)  # what a group whose scale rounds to nothing keeps
            for g in range(GROUPS):
                in_row = block * GROUPS + g
                group, level = row * groups + in_row, levels[in_row]
                to[at + SHIFTED] |= U8(shifted[group] << U8(g))
                if d != ZERO:
                    stored = U8(level + STEPS)
                    to[at + SCALES + g // 2] |= U8((stored & U8(15)) << U8(4 * (g % 2)))
                    to[at + FIFTH] |= U8((stored >> U8(4)) << U8(g))
                dl = d * F32(level)
                if dl != ZERO:
                    _round(x, group * N, inverse(dl), shifted[group], indices, g * N)
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
            pack_two_bits(indices, to, at + INDICES)
        put_half(to, start, RAISED * (sums[0] / sums[1] if sums[1] > ZERO else d))


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    k, source, width = rows.shape[1], data.reshape(data.size), data.shape[1]
    for row in range(rows.shape[0]):
        x, start = rows[row], place(row * width)
        d = get_half(source, start)
        for group in range(k // N):
            at, g = start + D + group // GROUPS * BYTES, group % GROUPS
            low = (source[at + SCALES + g // 2] >> U8(4 * (g % 2))) & U8(15)
            high = (source[at + FIFTH] >> U8(g)) & U8(1)
            scale = d * F32(I32(low) + I32(high) * I32(16) - STEPS)
            table, lower = SECOND * ((source[at + SHIFTED] >> U8(g)) & U8(1)), at + INDICES + N * (g // 4)
            for i in range(N):
                x[group * N + i] = scale * VALUES[table + ((source[lower + i] >> U8(2 * (g % 4))) & U8(3))]


class IQ2_KS(KernelFormat):  # noqa: N801  # the field's name
    """2.1875 bits, two tables of uneven values, with a 5-bit scale for 32 weights."""

    spec = FormatSpec(
        name="IQ2_KS",
        ggml_type=145,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        row_meta_bytes=D,
        floats=(StoredFloat(kind="f16", per="row"),),
        dialect="ik",
        importance="optional",
        exactness="byte-equal to ik_llama.cpp's thorough search (--slow-iq2ks) without fused multiply-add",
        error_bound=0.45,
        fallback="IQ4_NL",
        file_type=147,  # LLAMA_FTYPE_MOSTLY_IQ2_KS
        summary="2.19 bits, two tables of uneven values, one scale a row: better than IQ2_XXS",
    )
    kernels = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode)
