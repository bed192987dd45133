"""Q5_K: super-blocks of 8 groups of 32 weights, each group with a 6-bit scale and minimum.

    256 weights → f16 d, f16 dmin, 12 bytes of scales and minima (see `core/k_quants/six_bit_scales.py`),
                  32 × eight upper bits of q, 128 × two times four lower bits of q (176 bytes)
    byte 16 + i         bit g is the upper bit of q of weight 32 g + i
    byte 48 + 32 p + i  lower bits of weight 64 p + i in its lower half, of weight 64 p + 32 + i in its upper half

    x ≈ d * scale * q - dmin * minimum

ggml: block_q5_K, quantize_row_q5_K_ref, quantize_row_q5_K_impl.
"""

from __future__ import annotations

from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import KernelFormat
from quantrecipe.core.k_quants.six_bit_scales import six_bit_kernels
from quantrecipe.core.k_quants.superblock import SUPERBLOCK

__all__ = ["Q5_K"]


class Q5_K(KernelFormat):  # noqa: N801  # the field's name
    """5.5 bits, with a scale and a minimum for 32 weights."""

    spec = FormatSpec(
        name="Q5_K",
        ggml_type=13,
        block=SUPERBLOCK,
        block_bytes=176,
        floats=(StoredFloat(kind="f16"), StoredFloat(kind="f16", at=2, name="dmin")),
        importance="optional",
        error_bound=0.045,
        fallback="Q5_1",
        file_type=17,  # LLAMA_FTYPE_MOSTLY_Q5_K_M
        summary="5-bit k-quant: close to the original",
    )
    kernels = six_bit_kernels(bits=5, rmin=-0.5, rdelta=0.1, nstep=15, limit=63)
