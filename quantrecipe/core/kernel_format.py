"""KernelFormat: a format that is a spec and two or three kernels, which is what nearly every format is.

    class Q8_0(KernelFormat):
        spec = FormatSpec(name="Q8_0", ...)
        kernels = Kernels(encode=_encode, decode=_decode)

A format with something of its own beside them, such as NVFP4's factor, overrides what `QuantFormat` has for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from quantrecipe.api import QuantFormat

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["KernelFormat", "Kernels"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernels:
    """What encodes and decodes a format's rows. The arrays are plain (see `encode_rows`), the last one is filled.

    encode:          (rows, out), without importance; None where the format needs one
    encode_weighted: (rows, importance, out); None where importance has no effect
    decode:          (data, rows)
    """

    encode: Callable[[Any, Any], None] | None = None
    encode_weighted: Callable[[Any, Any, Any], None] | None = None
    decode: Callable[[Any, Any], None]


class KernelFormat(QuantFormat):
    """A format whose work is done by kernels. A subclass defines `spec` and `kernels`."""

    kernels: ClassVar[Kernels]

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        from quantrecipe.core.checked_rows import (
            encode_rows,  # a plan, which encodes nothing, doesn't need it
        )

        return encode_rows(
            self.spec, rows, importance, out, plain=self.kernels.encode, weighted=self.kernels.encode_weighted
        )

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        from quantrecipe.core.checked_rows import decode_rows

        return decode_rows(self.spec, data, k, out, self.kernels.decode)
