"""transform: stored rows of a tensor → the output's bytes of them. Runs in any thread, touches no file.

What isn't finite never gets into a block unseen. With `nan="error"` it stops the run, named by tensor, row and
column. With `nan="keep"` types that can hold it (F32, F16, BF16) keep it; a quantized block can't, and gets 0
in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quantrecipe.api import QuantFormat
from quantrecipe.errors import NonFiniteError
from quantrecipe.model.read import arrange_rows
from quantrecipe.output.units import Unit

__all__ = ["Nan", "Scratch", "source_row_bytes", "transform"]

Nan: TypeAlias = Literal["error", "keep"]
_Bytes: TypeAlias = NDArray[np.uint8]
_Floats: TypeAlias = NDArray[np.float32]

_FLOAT_TARGETS = {"F32", "F16", "BF16"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Scratch:
    """Buffers of one thread, flat, large enough for any unit of the plan."""

    floats: _Floats
    encoded: _Bytes


def source_row_bytes(dtype: str, cols: int, formats: Mapping[str, QuantFormat]) -> int:
    """Bytes of a stored row."""
    return formats[dtype].spec.row_bytes(cols)


def transform(
    unit: Unit,
    raw: _Bytes,
    importance: _Floats | None,
    scratch: Scratch,
    *,
    source: QuantFormat,
    rows_per_head: int,
    nan: Nan,
) -> tuple[_Bytes, int]:
    """raw: uint8 (rows, source row bytes) in source order → (uint8 (rows, row bytes), how many weights aren't finite).

    The result is `raw`, or lies in `scratch`, and holds until either is used again.
    """
    target, cols = unit.assignment.format, unit.assignment.tensor.cols
    if rows_per_head > 1:
        heads = (
            raw if len(unit.assignment.tensor.shape) > 1 else raw.reshape(cols, -1)
        )  # a bias: weight by weight
        raw = arrange_rows(heads, rows_per_head).reshape(raw.shape)
    is_float = target.spec.name in _FLOAT_TARGETS
    if unit.assignment.copied and (nan == "keep" or not is_float):
        return raw, 0
    floats = scratch.floats[: unit.rows * cols].reshape(unit.rows, cols)
    if source.spec.name == "F64":
        with np.errstate(over="ignore"):  # what overflows becomes Inf, and is found below
            np.copyto(floats, raw.view(np.float64), casting="same_kind")
    else:
        source.decode(raw, cols, out=floats)
    encoded = scratch.encoded[: unit.rows * target.spec.row_bytes(cols)].reshape(unit.rows, -1)
    try:
        return target.encode(floats, importance, out=encoded), 0
    except NonFiniteError as error:
        wrong = ~np.isfinite(floats)
        if nan == "error" or not wrong.any():
            raise _name(error, unit, floats, wrong) from error
    values = floats[wrong]
    floats[wrong] = 0
    target.encode(floats, importance, out=encoded)
    if is_float:
        encoded.view(_FLOAT_BITS[target.spec.name])[wrong] = _bits(values, target.spec.name)
    return encoded, values.size


_FLOAT_BITS = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}


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


def _name(error: NonFiniteError, unit: Unit, floats: _Floats, wrong: NDArray[np.bool_]) -> NonFiniteError:
    """The error with the tensor's name and the place in it."""
    tensor = unit.assignment.tensor
    if not wrong.any():
        return NonFiniteError(f"{tensor.name}: {error}")
    row, col = np.argwhere(wrong)[0]
    place = f"row {(unit.start + int(row)) % tensor.rows}, column {int(col)}"
    if tensor.experts > 1:
        place = f"expert {unit.expert}, {place}"
    return NonFiniteError(
        f"{tensor.name}: {floats[row, col]} at {place}",
        "the model is damaged: download or train it again; `--nan keep` goes on (quantized types store 0 there)",
    )
