"""F32: IEEE 754 single precision, little-endian.

1 weight → s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm (4 bytes)
"""

from __future__ import annotations

from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import KernelFormat, Kernels
from quantrecipe.core.half import f32_bytes_from_rows, rows_from_f32_bytes

__all__ = ["F32"]


class F32(KernelFormat):
    """32 bits: what norms, biases and routers are stored in."""

    spec = FormatSpec(
        name="F32",
        ggml_type=0,
        block=1,
        block_bytes=4,
        floats=(StoredFloat(kind="f32", name="value"),),
        file_type=0,  # LLAMA_FTYPE_ALL_F32
        summary="single precision, nothing lost",
    )
    kernels = Kernels(encode=f32_bytes_from_rows, decode=rows_from_f32_bytes)
