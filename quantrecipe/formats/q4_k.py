"""Q4_K: super-blocks of 8 groups of 32 weights, each group with a 6-bit scale and minimum.

    256 weights → f16 d, f16 dmin, 12 bytes of 6-bit scales and minima, 128 × two 4-bit q (144 bytes)
    bytes 4 to 15 are drawn in `core/k_quants/six_bit_scales.py`
    byte 16 + 32 p + i holds q of weight 64 p + i in its lower half, of weight 64 p + 32 + i in its upper half

    x ≈ d * scale * q - dmin * minimum

ggml: block_q4_K, quantize_row_q4_K_ref, quantize_row_q4_K_impl.
"""

from __future__ import annotations

from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import KernelFormat
from quantrecipe.core.k_quants.six_bit_scales import six_bit_kernels
from quantrecipe.core.k_quants.superblock import SUPERBLOCK

__all__ = ["Q4_K"]


class Q4_K(KernelFormat):  # noqa: N801  # the field's name
    """4.5 bits, with a scale and a minimum for 32 weights."""

    spec = FormatSpec(
        name="Q4_K",
        ggml_type=12,
        block=SUPERBLOCK,
        block_bytes=144,
        floats=(StoredFloat(kind="f16"), StoredFloat(kind="f16", at=2, name="dmin")),
        importance="optional",
        error_bound=0.09,
        fallback="Q5_0",
        file_type=15,  # LLAMA_FTYPE_MOSTLY_Q4_K_M
        summary="4-bit k-quant: the usual choice for most of a model",
    )
    kernels = six_bit_kernels(bits=4, rmin=-1.0, rdelta=0.1, nstep=20, limit=255)
