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

from quantrecipe_ik.core.layouts import SIX_BIT_LEVELS, Indices, Layout, bit_of_group
from quantrecipe_ik.core.scales import signed_levels
from quantrecipe_ik.core.uneven import uneven_kernels
from quantrecipe_ik.core.value_search import search_values
from quantrecipe_ik.core.value_tables import FOUR_BITS

__all__ = ["KERNELS"]

SHIFTED = 2
N = 16


LAYOUT = Layout(
    n=N, block_bytes=144, tables=bit_of_group(SHIFTED), levels=SIX_BIT_LEVELS,
    indices=Indices(low_bits=4, lower=16, wide=16),
)  # fmt: skip

KERNELS = uneven_kernels(
    LAYOUT, FOUR_BITS, search_values(FOUR_BITS, N, tries=7), signed_levels(-32, 31),
    if_empty="all", rounds_zeros=True,
)  # fmt: skip
