"""IQ5_KS: groups of 32 weights with a 7-bit scale, two tables of 32 uneven values, and one scale for the row.

    row          → f32 d, then its super-blocks
    256 weights → 8 × u8 scale and table, 128 × the lower bits of two indices, 32 × the fifth bit of eight (168 bytes)
    byte g              of group g: bits 1 to 7 the scale, bit 0 whether it takes the shifted values
    byte 8 + 32 p + i   of the index of weight 64 p + i in its lower half, of weight 64 p + 32 + i in its upper half
    byte 136 + i        bit g: the fifth bit of the index of weight 32 g + i

    x ≈ d * (2 scale - 127) * VALUES[index]

ik_llama.cpp: block_iq5_ks, quantize_row_iq5_ks_impl, dequantize_row_iq5_ks.
"""

from __future__ import annotations

from quantrecipe_ik.core.layouts import LEVEL_BYTES, TABLE_BIT_0, Indices, Layout
from quantrecipe_ik.core.scales import odd_levels
from quantrecipe_ik.core.uneven import uneven_kernels
from quantrecipe_ik.core.value_search import search_values
from quantrecipe_ik.core.value_tables import FIVE_BITS

__all__ = ["KERNELS"]

N = 32


LAYOUT = Layout(
    n=N, block_bytes=168, row_bytes=4, tables=TABLE_BIT_0, levels=LEVEL_BYTES,
    indices=Indices(low_bits=4, lower=8, high_bits=1, upper=136),
)  # fmt: skip

KERNELS = uneven_kernels(
    LAYOUT,
    FIVE_BITS,
    search_values(FIVE_BITS, N, tries=5),
    odd_levels,
    if_empty="tables",
    rounds_zeros=True,
)
