"""F32: IEEE 754 single precision, little-endian.

1 weight → s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm (4 bytes)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import decode_rows, encode_rows
from quantrecipe.core.half import f32_bytes_from_rows, rows_from_f32_bytes

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["F32"]


class F32(QuantFormat):
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

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        return encode_rows(self.spec, rows, importance, out, plain=f32_bytes_from_rows)

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, rows_from_f32_bytes)
