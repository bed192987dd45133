"""Stored rows of a tensor → float32 → the output's bytes of them. Runs in any thread, touches no file.

What isn't finite never gets into a block unseen. With `nan="error"` it stops the run, named by tensor, row and
column. With `nan="allow"` types that can hold it (F32, F16, BF16) keep it; a quantized block can't, and gets 0
in its place.

What becomes infinite or NaN on the way, such as the scale of a block for weights that are too large for it, stops the
run in either case: only what the model has is allowed. The bytes themselves are looked at (`FormatSpec.floats`), as
llama-quantize does. See docs/decisions/0003-nan-keep.md.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quantrecipe.api import QuantFormat
from quantrecipe.core import float32_from_float64
from quantrecipe.core.finite import Unsound, all_sound, first_unsound
from quantrecipe.errors import NonFiniteError
from quantrecipe.output.preparations import Make
from quantrecipe.output.row_units import Unit

__all__ = ["Handling", "Nan", "Rows", "number_text", "to_floats", "value_text"]

Nan: TypeAlias = Literal["error", "allow", "keep"]
"""keep: the former name of allow."""
Handling: TypeAlias = Literal["error", "allow", "compare"]
"""compare: as allow, and what comes out isn't judged, since it is compared with what a file has."""
_Bytes: TypeAlias = NDArray[np.uint8]
_Floats: TypeAlias = NDArray[np.float32]

_FLOAT_BITS = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}
"""Types that can hold NaN and Inf."""

_SAFE = 32768
"""No type overflows below: the largest float16 is 65504."""

_ANOTHER_TYPE = "give this tensor BF16 or F32, or look into the model: such a weight is unusual"
_NUMBERS = {"d": "the scale d", "dmin": "the scale dmin", "m": "the minimum m", "e": "the scale e"}
"""ggml's names of what blocks hold. An encoder of a plugin may have others."""


def to_floats(raw: _Bytes, source: QuantFormat, out: _Floats) -> None:
    """Stored rows → float32 rows. raw: uint8 (rows, row bytes) of the format `source`; out: float32 (rows, cols)."""
    if source.spec.name == "F64":
        float32_from_float64(raw.view(np.float64), out=out)
    else:
        source.decode(raw, out.shape[1], out=out)


class Rows:
    """The rows of a unit, decoded once, for any number of formats."""

    def __init__(
        self,
        unit: Unit,
        raw: _Bytes,
        source: QuantFormat,
        floats: _Floats,
        *,
        nan: Handling,
        times: np.float32 | None = None,
    ) -> None:
        """raw: uint8 (rows, source row bytes); `source` is the format that it is in, `times` a factor beside it.

        floats: float32, a buffer that is written over; one that is too small is left alone.
        """
        self._unit = unit
        self._raw = raw
        self._source = source
        self._buffer = floats
        self._nan = nan
        self._times = times
        self._floats: _Floats | None = None
        self._wrong: tuple[NDArray[np.bool_], _Floats] | None = None

    def check(self) -> None:
        """NonFiniteError, unless nan="allow", where a weight isn't finite."""
        floats = self._decoded()
        if self._nan == "error" and not (finite := np.isfinite(floats)).all():
            raise self._error(NonFiniteError("not finite"), ~finite)

    def peak(self) -> float:
        """The largest magnitude among the weights that are finite; the others are an error unless nan="allow"."""
        self.check()
        return float(np.max(np.abs(self._decoded()), initial=0, where=np.isfinite(self._decoded())))

    def check_source(self) -> None:
        """NonFiniteError, unless nan="allow", where what is copied as it is holds NaN or Inf."""
        if self._nan != "error":
            return
        spec = self._source.spec
        found = None if all_sound(spec, self._raw) else first_unsound(spec, self._raw)
        if found is None:
            return
        if spec.block == 1:  # the numbers are the weights
            raise self._error(NonFiniteError("not finite"), ~np.isfinite(self._decoded()))
        what = f"{number_text(found, self._row(found.row))} is {value_text(found)} in the model"
        raise NonFiniteError(
            f"{self._unit.tensor.name}: {what}, so the weights that it is for are lost",
            "the model is damaged: download or make it again; --nan allow copies it as it is, which llama.cpp refuses "
            "to load with --check-tensors",
        )

    def encode(
        self,
        fmt: QuantFormat,
        importance: _Floats | None,
        out: _Bytes,
        *,
        factor: np.float32 | None = None,
        make: Make | None = None,
    ) -> int:
        """Encode the rows, divided by `factor`, into `out`, uint8 (rows, row bytes).

        make: what does it, if it isn't the format by itself
        How many weights lost a value that isn't finite.
        """
        bits = _FLOAT_BITS.get(fmt.spec.name)
        floats = self._decoded()

        def encode() -> None:
            x = floats if factor is None else floats / factor
            if make is None:
                fmt.encode(x, importance, out=out)
            else:
                make(x, importance, out)

        try:
            encode()
        except NonFiniteError as error:
            wrong = ~np.isfinite(floats)
            if self._nan == "error" or not wrong.any():
                raise self._error(error, wrong) from error
            self._wrong = wrong, floats[wrong]
            floats[wrong] = 0
            encode()
        if self._nan != "compare":
            self._refuse_unsound(fmt, importance, out)
        if self._wrong is None:
            return 0
        mask, values = self._wrong
        if bits is None:
            return values.size
        out.view(bits)[mask] = _bits(values, fmt.spec.name)
        return 0

    def _refuse_unsound(self, fmt: QuantFormat, importance: _Floats | None, out: _Bytes) -> None:
        """NonFiniteError where the bytes that came out hold NaN or Inf, or would come back as such."""
        spec = fmt.spec
        if not all_sound(spec, out) and (found := first_unsound(spec, out)) is not None:
            raise self._unsound(fmt, importance, found)
        # Float16 scales are finite or not. The product of a wider one and an integer may overflow all the same, and
        # of a format that doesn't say what it holds nothing is known.
        if spec.floats and (spec.block == 1 or all(number.kind == "f16" for number in spec.floats)):
            return
        floats = self._decoded()
        if floats.max(initial=0) < _SAFE and floats.min(initial=0) > -_SAFE:
            return
        wrong = ~np.isfinite(fmt.decode(out, self._unit.tensor.cols))
        if wrong.any():
            where = self._largest(np.where(wrong, floats, 0))
            raise NonFiniteError(f"{self._too_large(where, fmt)}, which would give Inf back", _ANOTHER_TYPE)

    def _unsound(self, fmt: QuantFormat, importance: _Floats | None, found: Unsound) -> NonFiniteError:
        """What to say of a number that isn't finite, although all weights are."""
        spec, floats = fmt.spec, self._decoded()
        inside = np.zeros_like(floats)
        rows, cols = slice(found.row, found.row + spec.rows_per_group), slice(None)
        if found.block is not None:
            cols = slice(found.block * spec.block, (found.block + 1) * spec.block)
        inside[rows, cols] = floats[rows, cols]
        row, col = where = self._largest(inside)
        if spec.block == 1:
            remedy = _ANOTHER_TYPE.replace("BF16 or F32", "F32") if spec.name == "BF16" else _ANOTHER_TYPE
            return NonFiniteError(f"{self._too_large(where, fmt)}, which would give Inf back", remedy)
        becomes = f"{number_text(found, self._row(found.row))} becomes {value_text(found)}"
        if abs(inside[row, col]) >= _SAFE:
            return NonFiniteError(f"{self._too_large(where, fmt)}: {becomes}", _ANOTHER_TYPE)
        largest = f"the largest of its weights is {inside[row, col]:g}"
        what = f"{self._unit.tensor.name}: {becomes} in {spec.name}, although {largest}"
        if importance is None:
            return NonFiniteError(
                what, f"give this tensor another type, such as BF16; {spec.name}'s author wants to know"
            )
        part = importance[cols]
        return NonFiniteError(
            f"{what}: the importance goes from {part.min():g} to {part.max():g}, which float32 can't compute with",
            "look into the importance matrix with `quantrecipe imatrix show`, or quantize this tensor without it",
        )

    def _too_large(self, where: tuple[int, int], fmt: QuantFormat) -> str:
        value, place = self._decoded()[where], self._place(*where)
        return f"{self._unit.tensor.name}: {value:g} at {place} is too large for {fmt.spec.name}"

    @staticmethod
    def _largest(floats: _Floats) -> tuple[int, int]:
        """The row and column where the largest magnitude is."""
        row, col = np.unravel_index(int(np.abs(floats).argmax()), floats.shape)
        return int(row), int(col)

    def _decoded(self) -> _Floats:
        if self._floats is None:
            shape = self._unit.rows, self._unit.tensor.cols
            room = self._buffer if self._buffer.size >= shape[0] * shape[1] else np.empty(shape, np.float32)
            self._floats = room.reshape(-1)[: shape[0] * shape[1]].reshape(shape)
            to_floats(self._raw, self._source, self._floats)
            if self._times is not None:
                self._floats *= self._times
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
            "the model is damaged: download or train it again; --nan allow goes on (quantized types store 0)",
        )

    def _place(self, row: int, col: int) -> str:
        """The place of a weight in its tensor, as text."""
        return f"{self._row(row)}, column {col}"

    def _row(self, row: int) -> str:
        tensor = self._unit.tensor
        expert = f"expert {self._unit.expert}, " if tensor.experts > 1 else ""
        return f"{expert}row {(self._unit.start + row) % tensor.rows}"


def number_text(found: Unsound, row: str) -> str:
    """Which number it is, and where: "the scale d of row 3, block 1"."""
    block = "" if found.block is None else f", block {found.block}"
    return f"{_NUMBERS.get(found.name, f'the number {found.name}')} of {row}{block}"


def value_text(found: Unsound) -> str:
    """What a message calls a value that isn't finite."""
    return "NaN" if np.isnan(found.value) else "infinite"


def _bits(values: _Floats, name: str) -> NDArray[np.generic]:
    """NaN and Inf as the bits that they have in a float type."""
    if name == "F32":
        return values.view(np.uint32)
    if name == "F16":
        return values.astype(np.float16).view(np.uint16)
    quiet = np.where(
        np.isnan(values), np.uint32(0x400000), np.uint32(0)
    )  # a NaN stays one when its low bits go
    return ((values.view(np.uint32) | quiet) >> np.uint32(16)).astype(np.uint16)
