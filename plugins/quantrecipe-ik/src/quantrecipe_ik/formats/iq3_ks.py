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

from quantrecipe.core import kernel
from quantrecipe.core.scalars import I32, U8, Bytes, Int

from quantrecipe_ik.core.layouts import Indices, Layout, bit_of_group
from quantrecipe_ik.core.scales import signed_levels
from quantrecipe_ik.core.uneven import uneven_kernels
from quantrecipe_ik.core.value_search import search_values
from quantrecipe_ik.core.value_tables import THREE_BITS

__all__ = ["KERNELS"]

FIFTH, SHIFTED, SCALES = 0, 1, 2
N, STEPS = 32, 16


@kernel
def _put_level(to: Bytes, at: Int, g: Int, level: Int) -> None:
    stored = U8(level + STEPS)
    to[at + SCALES + g % 4] |= U8((stored & U8(15)) << U8(4 * (g // 4)))
    to[at + FIFTH] |= U8((stored >> U8(4)) << U8(g))


@kernel
def _get_level(source: Bytes, at: Int, g: Int) -> Int:
    low = (source[at + SCALES + g % 4] >> U8(4 * (g // 4))) & U8(15)
    return I32(low) + I32((source[at + FIFTH] >> U8(g)) & U8(1)) * I32(16) - I32(STEPS)


LAYOUT = Layout(
    n=N, block_bytes=102, row_bytes=2, tables=bit_of_group(SHIFTED), levels=(_put_level, _get_level),
    indices=Indices(low_bits=2, lower=6, high_bits=1, upper=70),
)  # fmt: skip

KERNELS = uneven_kernels(
    LAYOUT, THREE_BITS, search_values(THREE_BITS, N, tries=5, guarded=True), signed_levels(-STEPS, STEPS - 1),
    if_empty="tables", rounds_zeros=True,
)  # fmt: skip
