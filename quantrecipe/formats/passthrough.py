"""F64 and the integers: types that a GGUF may hold and that are copied as they are.

1 number → 1, 2, 4 or 8 bytes, little-endian
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.errors import FormatError

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["F64", "I8", "I16", "I32", "I64", "Passthrough"]


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


def _spec(
    name: str, ggml_type: int, nbytes: int, summary: str, floats: tuple[StoredFloat, ...] = ()
) -> FormatSpec:
    return FormatSpec(
        name=name,
        ggml_type=ggml_type,
        block=1,
        block_bytes=nbytes,
        exactness="copied as it is",
        floats=floats,
        codec=False,
        summary=summary,
    )


class F64(Passthrough):
    """Double precision."""

    spec = _spec("F64", 28, 8, "double precision, copied as it is", (StoredFloat(kind="f64", name="value"),))


class I8(Passthrough):
    """8-bit integers."""

    spec = _spec("I8", 24, 1, "8-bit integers, copied as they are")


class I16(Passthrough):
    """16-bit integers."""

    spec = _spec("I16", 25, 2, "16-bit integers, copied as they are")


class I32(Passthrough):
    """32-bit integers."""

    spec = _spec("I32", 26, 4, "32-bit integers, copied as they are")


class I64(Passthrough):
    """64-bit integers."""

    spec = _spec("I64", 27, 8, "64-bit integers, copied as they are")
