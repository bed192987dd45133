"""IQ6_K: super-blocks of 16 groups of 16 weights with an 8-bit scale each, and two tables of 64 uneven values.

    256 weights → f16 d, u16 shifted, 16 × int8 scale, 128 × the lower bits of two indices, 64 × the upper bits of four
    (212 bytes)
    byte 2 + g / 8       bit g % 8: whether group g takes the shifted values
    byte 4 + g           the scale of group g
    byte 20 + 32 p + i   of the index of weight 64 p + i in its lower half, of weight 64 p + 32 + i in its upper half
    byte 148 + 32 h + i  bits 2 p and 2 p + 1: the upper bits of the index of weight 128 h + 32 p + i

    x ≈ d * scale * (CUBIC[index], plus 1 in a shifted group)

A decoder computes the values by a polynomial of third degree; an encoder rounds to the integers next to them.

ik_llama.cpp: block_iq6_k, quantize_row_iq6_k_impl, dequantize_row_iq6_k (A_IQ6K … S_IQ6K).
"""

from __future__ import annotations

import numpy as np
from quantrecipe.core import kernel
from quantrecipe.core.scalars import F32, I8, I32, U8, Bytes, Int

from quantrecipe_ik.core.layouts import Indices, Layout, bit_of_group
from quantrecipe_ik.core.scales import signed_levels
from quantrecipe_ik.core.uneven import uneven_kernels
from quantrecipe_ik.core.value_search import search_values
from quantrecipe_ik.core.value_tables import SIX_BITS

__all__ = ["KERNELS"]

SHIFTED, SCALES = 2, 4
N = 16
_q = np.arange(64, dtype=F32)
_CUBIC = F32(-127) + _q * (F32(6.2568) + _q * (F32(-0.11218) + _q * F32(0.0011972)))
"""ik_llama.cpp: A_IQ6K, B_IQ6K, C_IQ6K, D_IQ6K."""
DECODED = np.concatenate([_CUBIC, _CUBIC + F32(1)])  # ik_llama.cpp: S_IQ6K


@kernel
def _put_level(to: Bytes, at: Int, g: Int, level: Int) -> None:
    to[at + SCALES + g] = U8(level & I32(255))


@kernel
def _get_level(source: Bytes, at: Int, g: Int) -> Int:
    return I8(source[at + SCALES + g])


LAYOUT = Layout(
    n=N, block_bytes=212, tables=bit_of_group(SHIFTED), levels=(_put_level, _get_level),
    indices=Indices(low_bits=4, lower=20, high_bits=2, upper=148),
)  # fmt: skip

KERNELS = uneven_kernels(
    LAYOUT, SIX_BITS, search_values(SIX_BITS, N, tries=5, refit=True), signed_levels(-127, 127),
    plain="evened square", decoded=DECODED,
)  # fmt: skip
