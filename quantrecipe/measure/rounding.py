"""Rounded: weights as one type leaves them, stored in another that is nearly exact.

A probe asks what a tensor's rounding does to the output. Rounded weights in the base's type have the base's size and
place: they are written over the tensor in a finished file, and nothing else in it changes. What the base's own
rounding adds is there before and after.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from quantrecipe.api import FormatSpec, QuantFormat

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["Rounded"]


class Rounded(QuantFormat):
    """encode rounds to `inner` first, and stores the result as `base`."""

    spec: FormatSpec  # type: ignore[misc]  # of the instance: it is made of two others'

    def __init__(self, base: QuantFormat, inner: QuantFormat) -> None:
        super().__init__()
        self.spec = replace(
            base.spec, rows_per_group=inner.spec.rows_per_group, importance=inner.spec.importance
        )
        self._base = base
        self._inner = inner

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        """The rounded rows in the base's type, in the shape and size that it always has."""
        rounded = self._inner.decode(self._inner.encode(rows, importance), rows.shape[1])
        return self._base.encode(rounded, out=out)

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        """The rows as the base decodes them."""
        return self._base.decode(data, k, out=out)
