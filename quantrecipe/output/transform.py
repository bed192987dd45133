"""Stored rows of a tensor → float32 → the output's bytes of them. Runs in any thread, touches no file.

What isn't finite never gets into a block unseen. With `nan="error"` it stops the run, named by tensor, row and
column. With `nan="keep"` types that can hold it (F32, F16, BF16) keep it; a quantized block can't, and gets 0
in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quantrecipe.api import QuantFormat
from quantrecipe.errors import NonFiniteError
from quantrecipe.model.read import arrange_rows
from quantrecipe.output.units import Unit

__all__ = ["Nan", "Rows", "Scratch", "arranged"]

Nan: TypeAlias = Literal["error", "keep"]
_Bytes: TypeAlias = NDArray[np.uint8]
_Floats: TypeAlias = NDArray[np.float32]

_FLOAT_BITS = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}
"""Types that can hold NaN and Inf."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scratch:
    """Buffers of one thread, flat, large enough for any unit."""

    floats: _Floats
    encoded: _Bytes


def arranged(raw: _Bytes, unit: Unit, rows_per_head: int) -> _Bytes:
    """uint8 (rows, source row bytes) in source order → the same in the GGUF's order."""
    if rows_per_head == 1:
        return raw
    if len(unit.tensor.shape) == 1:  # a bias: its weights are what the heads' rows are elsewhere
        return arrange_rows(raw.reshape(unit.tensor.cols, -1), rows_per_head).reshape(raw.shape)
    return arrange_rows(raw, rows_per_head)


class Rows:
    """The rows of a unit, decoded once, for any number of targets."""

    def __init__(self, unit: Unit, raw: _Bytes, source: QuantFormat, scratch: Scratch, *, nan: Nan) -> None:
        """raw: uint8 (rows, source row bytes), arranged; `source` is the format that it is in."""
        self._unit = unit
        self._raw = raw
        self._source = source
        self._scratch = scratch
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
        *,
        copied: bool,
        factor: np.float32 | None = None,
    ) -> tuple[_Bytes, int]:
        """(uint8 (rows, row bytes), how many weights lost a value that isn't finite).

        The bytes are those of the source where `copied`, or lie in the scratch buffers until the next call. The
        rows are divided by `factor` first.
        """
        bits = _FLOAT_BITS.get(target.spec.name)
        if copied and (self._nan == "keep" or bits is None):
            return self._raw, 0
        floats = self._decoded()
        size = self._unit.rows * target.spec.row_bytes(self._unit.tensor.cols)
        out = self._scratch.encoded[:size].reshape(self._unit.rows, -1)
        try:
            target.encode(floats if factor is None else floats / factor, importance, out=out)
        except NonFiniteError as error:
            wrong = ~np.isfinite(floats)
            if self._nan == "error" or not wrong.any():
                raise self._error(error, wrong) from error
            self._wrong = wrong, floats[wrong]
            floats[wrong] = 0
            target.encode(floats if factor is None else floats / factor, importance, out=out)
        if self._wrong is None:
            return out, 0
        mask, values = self._wrong
        if bits is None:
            return out, values.size
        out.view(bits)[mask] = _bits(values, target.spec.name)
        return out, 0

    def _decoded(self) -> _Floats:
        if self._floats is None:
            cols = self._unit.tensor.cols
            floats = self._scratch.floats[: self._unit.rows * cols].reshape(self._unit.rows, cols)
            if self._source.spec.name == "F64":
                with np.errstate(over="ignore"):  # what overflows becomes Inf, and is found
                    np.copyto(floats, self._raw.view(np.float64), casting="same_kind")
            else:
                self._source.decode(self._raw, cols, out=floats)
            self._floats = floats
        return self._floats

    def _error(self, error: NonFiniteError, wrong: NDArray[np.bool_]) -> NonFiniteError:
        """The error with the tensor's name and the place in it."""
        unit, tensor = self._unit, self._unit.tensor
        if not wrong.any():
            return NonFiniteError(f"{tensor.name}: {error}")
        row, col = (int(index) for index in np.argwhere(wrong)[0])
        place = f"row {(unit.start + row) % tensor.rows}, column {col}"
        if tensor.experts > 1:
            place = f"expert {unit.expert}, {place}"
        return NonFiniteError(
            f"{tensor.name}: {self._decoded()[row, col]} at {place}",
            "the model is damaged: download or train it again; --nan keep goes on (quantized types store 0)",
        )


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
