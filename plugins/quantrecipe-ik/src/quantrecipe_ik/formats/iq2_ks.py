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

from quantrecipe.core import kernel
from quantrecipe.core.scalars import I32, U8, ZERO, Bytes, Float, Floats, Int, Ints

from quantrecipe_ik.core.layouts import Indices, Layout, bit_of_group
from quantrecipe_ik.core.partitions import SIGMA, search_partitions
from quantrecipe_ik.core.scales import fit_scales
from quantrecipe_ik.core.uneven import uneven_kernels
from quantrecipe_ik.core.value_tables import TWO_BITS

__all__ = ["KERNELS"]

STEPS = 16
RAISED = 1.03
SHIFTED, FIFTH, SCALES = 0, 1, 2
N = 32


@kernel
def _levels(scales: Floats, counts: Floats, first: Int, count: Int, levels: Ints) -> tuple[Float, Int]:
    d = fit_scales(scales, counts, first, count, STEPS, levels)
    return d, d == ZERO


@kernel
def _put_level(to: Bytes, at: Int, g: Int, level: Int) -> None:
    stored = U8(level + STEPS)
    to[at + SCALES + g // 2] |= U8((stored & U8(15)) << U8(4 * (g % 2)))
    to[at + FIFTH] |= U8((stored >> U8(4)) << U8(g))


@kernel
def _get_level(source: Bytes, at: Int, g: Int) -> Int:
    low = (source[at + SCALES + g // 2] >> U8(4 * (g % 2))) & U8(15)
    return I32(low) + I32((source[at + FIFTH] >> U8(g)) & U8(1)) * I32(16) - I32(STEPS)


LAYOUT = Layout(
    n=N, block_bytes=70, row_bytes=2, tables=bit_of_group(SHIFTED), levels=(_put_level, _get_level),
    indices=Indices(low_bits=2, lower=6),
)  # fmt: skip

KERNELS = uneven_kernels(
    LAYOUT, TWO_BITS, search_partitions(N, (3 * N // 4, N // 4)), _levels,
    plain="evened square", factor=SIGMA, raised=RAISED, if_empty="tables",
)  # fmt: skip
