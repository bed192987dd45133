"""Stored rows of a tensor → float32 → the output's bytes of them. Runs in any thread, touches no file.

What isn't finite never gets into a block unseen. With `nan="error"` it stops the run, named by tensor, row and
column. With `nan="keep"` types that can hold it (F32, F16, BF16) keep it; a quantized block can't, and gets 0
in its place.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quantrecipe.api import QuantFormat
from quantrecipe.core import float32_from_float64
from quantrecipe.errors import NonFiniteError
from quantrecipe.model.read import arrange_rows
from quantrecipe.output.units import Unit

__all__ = ["Nan", "Rows", "arranged", "to_floats"]

Nan: TypeAlias = Literal["error", "keep"]
_Bytes: TypeAlias = NDArray[np.uint8]
_Floats: TypeAlias = NDArray[np.float32]

_FLOAT_BITS = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}
"""Types that can hold NaN and Inf."""

_SAFE = 32768
"""No type overflows below: the largest float16 is 65504."""


def arranged(raw: _Bytes, unit: Unit, rows_per_head: int) -> _Bytes:
    """uint8 (rows, source row bytes) in source order → the same in the GGUF's order."""
    if rows_per_head == 1:
        return raw
    if len(unit.tensor.shape) == 1:  # a bias: its weights are what the heads' rows are elsewhere
        return arrange_rows(raw.reshape(unit.tensor.cols, -1), rows_per_head).reshape(raw.shape)
    return arrange_rows(raw, rows_per_head)


def to_floats(raw: _Bytes, source: QuantFormat, out: _Floats) -> None:
    """Stored rows → float32 rows. raw: uint8 (rows, row bytes) of the format `source`; out: float32 (rows, cols)."""
    if source.spec.name == "F64":
        float32_from_float64(raw.view(np.float64), out=out)
    else:
        source.decode(raw, out.shape[1], out=out)


class Rows:
    """The rows of a unit, decoded once, for any number of targets."""

    def __init__(self, unit: Unit, raw: _Bytes, source: QuantFormat, floats: _Floats, *, nan: Nan) -> None:
        """raw: uint8 (rows, source row bytes), arranged; `source` is the format that it is in.

        floats: float32 (at least the unit's weights,), a buffer that is written over.
        """
        self._unit = unit
        self._raw = raw
        self._source = source
        self._buffer = floats
        self._nan = nan
        self._floats: _Floats | None = None
        self._wrong: tuple[NDArray[np.bool_], _Floats] | None = None

    def check(self) -> None:
        """NonFiniteError, unless nan="keep", where a weight isn't finite."""
        floats = self._decoded()
        if self._nan == "error" and not (finite := np.isfinite(floats)).all():
            raise self._error(NonFiniteError("not finite"), ~finite)

    def peak(self) -> float:
        """The largest magnitude among the weights that are finite; the others are an error unless nan="keep"."""
        self.check()
        return float(np.max(np.abs(self._decoded()), initial=0, where=np.isfinite(self._decoded())))

    def encode(
        self,
        target: QuantFormat,
        importance: _Floats | None,
        out: _Bytes,
        *,
        copied: bool,
        factor: np.float32 | None = None,
    ) -> tuple[_Bytes, int]:
        """(uint8 (rows, row bytes), how many weights lost a value that isn't finite).

        The bytes are those of the source where `copied`, else they are in `out`. The rows are divided by `factor`
        first.
        """
        bits = _FLOAT_BITS.get(target.spec.name)
        if copied and (self._nan == "keep" or bits is None):
            return self._raw, 0
        floats = self._decoded()
        try:
            target.encode(floats if factor is None else floats / factor, importance, out=out)
        except NonFiniteError as error:
            wrong = ~np.isfinite(floats)
            if self._nan == "error" or not wrong.any():
                raise self._error(error, wrong) from error
            self._wrong = wrong, floats[wrong]
            floats[wrong] = 0
            target.encode(floats if factor is None else floats / factor, importance, out=out)
        if self._nan == "error" and not copied:
            self._refuse_overflow(target, out)
        if self._wrong is None:
            return out, 0
        mask, values = self._wrong
        if bits is None:
            return out, values.size
        out.view(bits)[mask] = _bits(values, target.spec.name)
        return out, 0

    def _refuse_overflow(self, target: QuantFormat, out: _Bytes) -> None:
        """NonFiniteError where a finite weight is beyond what the type can say, and would come back as Inf."""
        floats = self._decoded()
        if floats.max(initial=0) < _SAFE and floats.min(initial=0) > -_SAFE:
            return
        wrong = ~np.isfinite(target.decode(out, self._unit.tensor.cols))
        if wrong.any():
            magnitudes = np.where(wrong, np.abs(floats), -1)
            row, col = np.unravel_index(int(magnitudes.argmax()), magnitudes.shape)
            raise NonFiniteError(
                f"{self._unit.tensor.name}: {floats[row, col]:g} at {self._place(int(row), int(col))} is too large for "
                f"{target.spec.name}, which would give Inf back",
                "give this tensor BF16 or F32, or look into the model: such a weight is unusual",
            )

    def _decoded(self) -> _Floats:
        if self._floats is None:
            cols = self._unit.tensor.cols
            self._floats = self._buffer[: self._unit.rows * cols].reshape(self._unit.rows, cols)
            to_floats(self._raw, self._source, self._floats)
        return self._floats

    def _error(self, error: NonFiniteError, wrong: NDArray[np.bool_]) -> NonFiniteError:
        """The error with the tensor's name and the place in it."""
        tensor = self._unit.tensor
        if not wrong.any():
            return NonFiniteError(f"{tensor.name}: {error}")
        row, col = (int(index) for index in np.argwhere(wrong)[0])
        if self._source.spec.name == "F64":
            stored = self._raw.view(np.float64)[row, col]
            if np.isfinite(stored):
                return NonFiniteError(
                    f"{tensor.name}: {stored:g} at {self._place(row, col)} is beyond the range of float32",
                    "such a weight is unusual: look into the model",
                )
        return NonFiniteError(
            f"{tensor.name}: {self._decoded()[row, col]} at {self._place(row, col)}",
            "the model is damaged: download or train it again; --nan keep goes on (quantized types store 0)",
        )

    def _place(self, row: int, col: int) -> str:
        """Where a weight is in its tensor."""
        tensor = self._unit.tensor
        expert = f"expert {self._unit.expert}, " if tensor.experts > 1 else ""
        return f"{expert}row {(self._unit.start + row) % tensor.rows}, column {col}"


def _bits(values: _Floats, name: str) -> NDArray[np.generic]:
    """NaN and Inf in the bits of a float type."""
    if name == "F32":
        return values.view(np.uint32)
    if name == "F16":
        return values.astype(np.float16).view(np.uint16)
    quiet = np.where(
        np.isnan(values), np.uint32(0x400000), np.uint32(0)
    )  # a NaN stays one when its low bits go
    return ((values.view(np.uint32) | quiet) >> np.uint32(16)).astype(np.uint16)
