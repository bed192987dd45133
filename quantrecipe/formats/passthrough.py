"""F64 and the integers: types that a GGUF may hold and that are copied as they are.

1 number → 1, 2, 4 or 8 bytes, little-endian
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from quantrecipe.api import QuantFormat
from quantrecipe.errors import FormatError

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["Passthrough"]


class Passthrough(QuantFormat):
    """A type whose bytes are carried over; weights can't be turned into it, nor it into weights."""

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        self._refuse()

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise FormatError(
            f"{self.spec.name} only passes through", "use `type: keep`, or F32, F16 or BF16 for weights"
        )
