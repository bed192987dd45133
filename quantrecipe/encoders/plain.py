"""`plain`: every weight is rounded for itself, as the format's own encoder does it. What holds without an encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from quantrecipe.api import Encoder, QuantFormat

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["Plain"]


class Plain(Encoder):
    """The format's own encoder, with importance where there is some."""

    name: ClassVar[str] = "plain"
    summary: ClassVar[str] = "every weight for itself, with importance where there is some"

    def encode(
        self,
        rows: FloatArray,
        fmt: QuantFormat,
        importance: FloatArray | None = None,
        prepared: Any = None,
        *,
        out: ByteArray | None = None,
    ) -> ByteArray:
        return fmt.encode(rows, importance, out=out)
