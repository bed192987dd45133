"""IQ2_K: super-blocks of 16 groups of 16 weights with a 4-bit scale each, and two tables of four uneven values.

    256 weights → f16 d, u16 shifted, 8 × two 4-bit scales, 64 × four 2-bit indices (76 bytes)
    byte 2 + g / 8      bit g % 8: whether group g takes the shifted values
    byte 4 + p          scale 2 p in its lower half, scale 2 p + 1 in its upper half
    byte 12 + 32 h + i  bits 2 p and 2 p + 1: the index of weight 128 h + 32 p + i

    x ≈ d * (scale - 8) * VALUES[index]

ik_llama.cpp: block_iq2_k, quantize_row_iq2_k_impl, dequantize_row_iq2_k.
"""

from __future__ import annotations

from quantrecipe.core import kernel
from quantrecipe.core.scalars import I32, U8, ZERO, Bytes, Float, Floats, Int, Ints

from quantrecipe_ik.core.layouts import Indices, Layout, bit_of_group
from quantrecipe_ik.core.partitions import SIGMA, search_partitions
from quantrecipe_ik.core.scales import fit_scales, inverse, signed_level
from quantrecipe_ik.core.uneven import uneven_kernels
from quantrecipe_ik.core.value_tables import TWO_BITS

__all__ = ["KERNELS"]

STEPS = 8
RAISED = 1.03
SHIFTED, SCALES = 2, 4
N = 16


@kernel
def _levels(scales: Floats, counts: Floats, first: Int, count: Int, levels: Ints) -> tuple[Float, Int]:
    d = fit_scales(scales, counts, first, count, STEPS, levels)
    iscale = inverse(d)
    for g in range(count):
        levels[g] = signed_level(iscale * scales[first + g], STEPS)
    return d, d == ZERO


@kernel
def _put_level(to: Bytes, at: Int, g: Int, level: Int) -> None:
    to[at + SCALES + g // 2] |= U8(U8(level + STEPS) << U8(4 * (g % 2)))


@kernel
def _get_level(source: Bytes, at: Int, g: Int) -> Int:
    return I32((source[at + SCALES + g // 2] >> U8(4 * (g % 2))) & U8(15)) - I32(STEPS)


LAYOUT = Layout(
    n=N, block_bytes=76, tables=bit_of_group(SHIFTED), levels=(_put_level, _get_level),
    indices=Indices(low_bits=2, lower=12),
)  # fmt: skip

KERNELS = uneven_kernels(
    LAYOUT,
    TWO_BITS,
    search_partitions(N, (N, 0)),
    _levels,
    plain="evened square",
    factor=SIGMA,
    raised=RAISED,
)
