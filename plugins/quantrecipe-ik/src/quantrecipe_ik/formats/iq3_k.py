"""IQ3_K: super-blocks of 16 groups of 16 weights with an odd 5-bit scale each, and two tables of eight uneven values.

    256 weights → f16 d, u16 shifted, u16 signs of scales, 8 × two 4-bit scales, 64 × the lower bits of four indices,
    32 × the third bit of eight indices (110 bytes)
    byte 2 + g / 8      bit g % 8: whether group g takes the shifted values
    byte 4 + g / 8      bit g % 8: whether the scale of group g is negative
    byte 6 + p          scale 2 p in its lower half, scale 2 p + 1 in its upper half
    byte 14 + 32 h + i  bits 2 p and 2 p + 1: of the index of weight 128 h + 32 p + i
    byte 78 + i         bit p: the third bit of the index of weight 32 p + i

    x ≈ ± d * (2 scale + 1) * VALUES[index]

ik_llama.cpp: block_iq3_k, quantize_row_iq3_k_impl, dequantize_row_iq3_k. (Its encoder goes on to move single indices
uphill, but then keeps the scale that it had before.)
"""

from __future__ import annotations

from quantrecipe.core import kernel
from quantrecipe.core.lanes import nearest_int
from quantrecipe.core.scalars import F32, HALF, I32, ONE, U8, ZERO, Bytes, Float, Floats, Int, Ints

from quantrecipe_ik.core.layouts import Indices, Layout, bit_of_group
from quantrecipe_ik.core.scales import inverse, largest_size
from quantrecipe_ik.core.uneven import uneven_kernels
from quantrecipe_ik.core.value_search import search_values
from quantrecipe_ik.core.value_tables import THREE_BITS

__all__ = ["KERNELS"]

MOST, LARGEST = I32(15), F32(31)
RAISED = 1.01
SHIFTED, SIGNS, SCALES = 2, 4, 6
N = 16


_search_all = search_values(THREE_BITS, N, tries=3, step=2, guarded=True, refit=True)


@kernel
def _search(s: Floats, at: Int, count: Int, scales: Floats, counts: Floats, shifted: Bytes) -> None:
    """As `search_values`; a group whose scale has become 0 takes the plain values."""
    _search_all(s, at, count, scales, counts, shifted)
    for group in range(at, at + count):
        shifted[group] = shifted[group] if scales[group] != ZERO else U8(0)


@kernel
def _levels(scales: Floats, counts: Floats, first: Int, count: Int, levels: Ints) -> tuple[Float, Int]:
    """Odd levels: 2 scale + 1, with the sign of the group's scale."""
    size = largest_size(scales, first, count)
    d = size / LARGEST
    iscale = inverse(d)
    for g in range(count):
        scale = scales[first + g]
        level = I32(2) * min(max(nearest_int(HALF * (iscale * abs(scale) - ONE)), I32(0)), MOST) + I32(1)
        levels[g] = -level if scale < ZERO else level
    return d, size == ZERO


@kernel
def _put_level(to: Bytes, at: Int, g: Int, level: Int) -> None:
    to[at + SCALES + g // 2] |= U8(U8(abs(level) // 2) << U8(4 * (g % 2)))
    to[at + SIGNS + g // 8] |= U8((U8(1) if level < 0 else U8(0)) << U8(g % 8))


@kernel
def _get_level(source: Bytes, at: Int, g: Int) -> Int:
    level = I32(2) * I32((source[at + SCALES + g // 2] >> U8(4 * (g % 2))) & U8(15)) + I32(1)
    return -level if (source[at + SIGNS + g // 8] >> U8(g % 8)) & U8(1) else level


LAYOUT = Layout(
    n=N, block_bytes=110, tables=bit_of_group(SHIFTED), levels=(_put_level, _get_level),
    indices=Indices(low_bits=2, lower=14, high_bits=1, upper=78),
)  # fmt: skip

KERNELS = uneven_kernels(
    LAYOUT, THREE_BITS, _search, _levels, plain="evened square", factor=1.5, raised=RAISED
)
