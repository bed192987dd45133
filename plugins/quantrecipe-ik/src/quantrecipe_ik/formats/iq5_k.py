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

from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import KernelFormat

from quantrecipe_ik.core.layouts import SIX_BIT_LEVELS, Indices, Layout, bit_of_group
from quantrecipe_ik.core.scales import signed_levels
from quantrecipe_ik.core.uneven import uneven_kernels
from quantrecipe_ik.core.value_search import search_values
from quantrecipe_ik.core.value_tables import FIVE_BITS
from quantrecipe_ik.core.weighing import SUPERBLOCK

__all__ = ["IQ5_K"]

SHIFTED = 2
N = 16


LAYOUT = Layout(
    n=N, block_bytes=176, tables=bit_of_group(SHIFTED), levels=SIX_BIT_LEVELS,
    indices=Indices(low_bits=4, lower=16, high_bits=1, upper=144),
)  # fmt: skip


class IQ5_K(KernelFormat):  # noqa: N801  # the field's name
    """5.5 bits, two tables of uneven values, with a 6-bit scale for 16 weights."""

    spec = FormatSpec(
        name="IQ5_K",
        ggml_type=140,
        block=SUPERBLOCK,
        block_bytes=176,
        floats=(StoredFloat(kind="f16"),),
        dialect="ik",
        importance="optional",
        exactness="byte-equal to ik_llama.cpp without fused multiply-add",
        error_bound=0.04,
        fallback="Q6_0",
        file_type=141,  # LLAMA_FTYPE_MOSTLY_IQ5_K
        summary="5.5 bits, two tables of uneven values: better than Q5_K at its size",
    )
    kernels = uneven_kernels(
        LAYOUT,
        FIVE_BITS,
        search_values(FIVE_BITS, N, tries=5, refit=True),
        signed_levels(-32, 31),
        plain="evened square",
    )  # fmt: skip
