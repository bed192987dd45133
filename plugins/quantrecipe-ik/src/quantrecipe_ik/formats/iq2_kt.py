"""IQ2_KT: eights of weights are points that a generator makes of 16 bits, with a 4-bit scale for 32 weights.

    row          → f32 d, then its super-blocks
    256 weights → 4 × two 4-bit scales, 32 × u16 index (68 bytes)
    byte b             the scale of weights 32 b on in its lower half, of weights 128 + 32 b on in its upper half
    bytes 4 + 2 g on   the index of weights 8 g on

    x ≈ d * VALUES[scale] * point, with the plain values of IQ4_K

ik_llama.cpp: block_iq2_kt, quantize_row_iq2_kt_impl, dequantize_row_iq2_kt.
The generator is in `core/trellis/generator.py`; the search, which is this plugin's own, in `core/trellis/encoder.py`.
"""

from __future__ import annotations

from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import KernelFormat

from quantrecipe_ik.core.trellis.encoder import Trellis
from quantrecipe_ik.core.trellis.kernels import nibbles_and_words, trellis_kernels
from quantrecipe_ik.core.trellis.levels import uneven_levels
from quantrecipe_ik.core.weighing import SUPERBLOCK

__all__ = ["IQ2_KT"]

WHAT = Trellis(
    count=1 << 16, size=8, bins=2, look=(2,), search=(2, 2, 2, 2), far=(2, 2, 2, 2), guesses=((82, 116),),
    more=(0.7, 0.85, 1.15, -1, -0.8, -1.2),
)  # fmt: skip
STORED = nibbles_and_words(block_bytes=68)


class IQ2_KT(KernelFormat):  # noqa: N801  # the field's name
    """2.125 bits, eights of weights from a generator, with a 4-bit scale for 32 weights."""

    spec = FormatSpec(
        name="IQ2_KT",
        ggml_type=153,
        block=SUPERBLOCK,
        block_bytes=68,
        row_meta_bytes=4,
        floats=(StoredFloat(kind="f32", per="row"),),
        dialect="ik",
        importance="optional",
        exactness="weighted error of each row no larger than ik_llama.cpp's; a search of its own",
        error_bound=0.35,
        fallback="IQ4_NL",
        file_type=151,  # LLAMA_FTYPE_MOSTLY_IQ2_KT
        summary="2.125 bits, a trellis type: the least error at its size, slow on CPUs",
    )
    kernels = trellis_kernels(WHAT, uneven_levels(), STORED)
