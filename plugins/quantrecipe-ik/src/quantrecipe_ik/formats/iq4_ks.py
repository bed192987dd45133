"""IQ4_KS: groups of 32 weights with a 7-bit scale, two tables of sixteen uneven values, and one scale for the row.

    row          → f32 d, then its super-blocks
    256 weights → 8 × u8 scale and table, 128 × two 4-bit indices (136 bytes)
    byte g              of group g: bits 1 to 7 the scale, bit 0 whether it takes the shifted values
    byte 8 + 16 g + i   the index of weight 32 g + i in its lower half, of weight 32 g + 16 + i in its upper half

    x ≈ d * (2 scale - 127) * VALUES[index]

ik_llama.cpp: block_iq4_ks, quantize_row_iq4_k_impl_bs128, dequantize_row_iq4_ks.
"""

from __future__ import annotations

from quantrecipe.core import kernel
from quantrecipe.core.bits import place
from quantrecipe.core.scalars import Bytes, Float, Floats, Int

from quantrecipe_ik.core.layouts import LEVEL_BYTES, TABLE_BIT_0, Indices, Layout
from quantrecipe_ik.core.scales import odd_levels
from quantrecipe_ik.core.uneven import uneven_kernels
from quantrecipe_ik.core.value_search import search_values
from quantrecipe_ik.core.value_tables import FOUR_BITS

__all__ = ["KERNELS"]

N = 32


@kernel
def _add_pairs(
    x: Floats, weights: Floats, at: Int, n: Int,
    values: Floats, first: Int, indices: Bytes, to: Int, level: Float, sums: Floats,
) -> None:  # fmt: skip
    """As `add_products`, but the products of weights i and 16 + i are added up first."""
    at, first, to = place(at), place(first), place(to)
    sxl, sl2 = sums[0], sums[1]
    for i in range(N // 2):
        w, v, q = weights[at + i], x[at + i], values[first + indices[to + i]] * level
        j = N // 2 + i
        w2, v2, q2 = weights[at + j], x[at + j], values[first + indices[to + j]] * level
        sxl += w * q * v + w2 * q2 * v2
        sl2 += w * q * q + w2 * q2 * q2
    sums[0], sums[1] = sxl, sl2


LAYOUT = Layout(
    n=N, block_bytes=136, row_bytes=4, tables=TABLE_BIT_0, levels=LEVEL_BYTES,
    indices=Indices(low_bits=4, lower=8, wide=16),
)  # fmt: skip

KERNELS = uneven_kernels(
    LAYOUT, FOUR_BITS, search_values(FOUR_BITS, N, tries=7), odd_levels,
    if_empty="tables", rounds_zeros=True, add=_add_pairs,
)  # fmt: skip
