"""IQ2_K: super-blocks of 16 groups of 16 weights with a 4-bit scale each, and two tables of four uneven values.

    256 weights → f16 d, u16 shifted, 8 × two 4-bit scales, 64 × four 2-bit indices (76 bytes)
    byte 2 + g / 8      bit g % 8: whether group g takes the shifted values
    byte 4 + p          scale 2 p in its lower half, scale 2 p + 1 in its upper half
    byte 12 + 32 h + i  bits 2 p and 2 p + 1: the index of weight 128 h + 32 p + i

    x ≈ d * (scale - 8) * VALUES[index]

ik_llama.cpp: block_iq2_k, quantize_row_iq2_k_impl, dequantize_row_iq2_k.
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
from quantrecipe_ik.core.scales import inverse, signed_level
from quantrecipe_ik.core.tables import TWO_BITS
from quantrecipe_ik.core.weights import SUPERBLOCK

__all__ = ["IQ2_K"]

STEPS = 8
RAISED = F32(1.03)
"""ik_llama.cpp stores d a little larger than the fit says."""

BYTES = 76
SHIFTED, SCALES, INDICES = 2, 4, 12
N = 16
GROUPS = SUPERBLOCK // N
VALUES, SECOND = TWO_BITS.values, len(TWO_BITS.plain)
_ALL = (N, 0)
_find, _find_weighted, _round = find_plain(N, _ALL), find_weighted(N, _ALL), round_group(TWO_BITS, N)


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
    _finish(x, weights, scales, counts, shifted, to)


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
    _finish(x, weights, scales, counts, shifted, to)


@kernel
def _finish(x: Any, weights: Any, scales: Any, counts: Any, shifted: Any, to: Any) -> None:
    """Quantize the scales of each super-block, round its weights with them, fit d to what came out, and pack."""
    indices, sums, levels = (
        np.empty(SUPERBLOCK, np.uint8),
        np.empty(2, np.float32),
        np.empty(GROUPS, np.int32),
    )
    for block in range(x.size // SUPERBLOCK):
        at = place(block * BYTES)
        to[at : at + BYTES] = U8(0)
        d = fit_scales(scales, counts, block * GROUPS, GROUPS, STEPS, levels)
        if d == ZERO:
            continue
        iscale = inverse(d)
        sums[:] = ZERO
        indices[:] = U8(0)  # what a group whose scale rounds to nothing keeps
        for g in range(GROUPS):
            group, first = block * GROUPS + g, block * SUPERBLOCK + g * N
            level = signed_level(iscale * scales[group], STEPS)
            to[at + SCALES + g // 2] |= U8(U8(level + STEPS) << U8(4 * (g % 2)))
            to[at + SHIFTED + g // 8] |= U8(shifted[group] << U8(g % 8))
            dl = d * F32(level)
            if dl != ZERO:
                _round(x, first, inverse(dl), shifted[group], indices, g * N)
                add_products(
                    x, weights, first, N, VALUES, shifted[group] * SECOND, indices, g * N, F32(level), sums
                )
        put_half(to, at, RAISED * (sums[0] / sums[1] if sums[1] > ZERO else d))
        pack_two_bits(indices, to, at + INDICES)


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // SUPERBLOCK):
        at = place(block * BYTES)
        d = get_half(source, at)
        for g in range(GROUPS):
            stored = (source[at + SCALES + g // 2] >> U8(4 * (g % 2))) & U8(15)
            scale = d * F32(I32(stored) - STEPS)
            table = SECOND * ((source[at + SHIFTED + g // 8] >> U8(g % 8)) & U8(1))
            first, lower = block * SUPERBLOCK + g * N, at + INDICES + 32 * (g // 8) + 16 * (g % 2)
            for i in range(N):
                x[first + i] = scale * VALUES[table + ((source[lower + i] >> U8(2 * (g // 2 % 4))) & U8(3))]


class IQ2_K(KernelFormat):  # noqa: N801  # the field's name
    """2.375 bits, two tables of uneven values, with a 4-bit scale for 16 weights."""

    spec = FormatSpec(
        name="IQ2_K",
        ggml_type=137,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        dialect="ik",
        importance="optional",
        exactness="byte-equal to ik_llama.cpp without fused multiply-add",
        error_bound=0.4,
        fallback="IQ4_NL",
        file_type=138,  # LLAMA_FTYPE_MOSTLY_IQ2_K
        summary="2.375 bits, two tables of uneven values: better than IQ2_XS and IQ2_S",
    )
    kernels = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode)
