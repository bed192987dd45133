"""IQ5_K: super-blocks of 16 groups of 16 weights with a 6-bit scale each, and two tables of 32 uneven values.

    256 weights → f16 d, u16 shifted, 4 × upper bits of 4 scales, 8 × lower bits of 2 scales, 128 × the lower bits of
    two indices, 32 × the fifth bit of eight indices (176 bytes)
    byte 2 + g / 8       bit g % 8: whether group g takes the shifted values
    byte 4 + p           the upper bits of scale 4 p + i in bits 2 i and 2 i + 1
    byte 8 + p           the lower bits of scale 2 p in its lower half, of scale 2 p + 1 in its upper half
    byte 16 + 32 p + i   of the index of weight 64 p + i in its lower half, of weight 64 p + 32 + i in its upper half
    byte 144 + i         bit p: the fifth bit of the index of weight 32 p + i

    x ≈ d * (scale - 32) * VALUES[index]

ik_llama.cpp: block_iq5_k, quantize_row_iq5_k_impl, dequantize_row_iq5_k.
"""

from __future__ import annotations

from quantrecipe_ik.core.layouts import SIX_BIT_LEVELS, Indices, Layout, bit_of_group
from quantrecipe_ik.core.scales import signed_levels
from quantrecipe_ik.core.uneven import uneven_kernels
from quantrecipe_ik.core.value_search import search_values
from quantrecipe_ik.core.value_tables import FIVE_BITS

__all__ = ["KERNELS"]

SHIFTED = 2
N = 16


LAYOUT = Layout(
    n=N, block_bytes=176, tables=bit_of_group(SHIFTED), levels=SIX_BIT_LEVELS,
    indices=Indices(low_bits=4, lower=16, high_bits=1, upper=144),
)  # fmt: skip

KERNELS = uneven_kernels(
    LAYOUT,
    FIVE_BITS,
    search_values(FIVE_BITS, N, tries=5, refit=True),
    signed_levels(-32, 31),
    plain="evened square",
)  # fmt: skip
