"""Survey: one pass over a tensor: its hash, and of each row how large it is, and how spiky.

Outliers are known only to those who have read everything; and the hash says whether anything has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantrecipe.api import QuantFormat
from quantrecipe.errors import NonFiniteError
from quantrecipe.measure.buffers import Buffers
from quantrecipe.model.source.digest import Digest
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.source.source import TensorSource
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.row_units import split
from quantrecipe.output.transform import to_floats
from quantrecipe.tensor import TensorInfo

__all__ = ["Survey", "survey"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Survey:
    """What one pass finds; rows are counted over all experts.

    digest: the hash of what is stored
    energy: float64 (rows,), the sum of squares of each row
    peak:   float32 (rows,), the largest magnitude in each row
    """

    digest: str
    energy: NDArray[np.float64]
    peak: NDArray[np.float32]


def survey(
    tensor: TensorInfo,
    stored: TensorSource,
    source: QuantFormat,
    reader: TensorReader,
    buffers: Buffers,
    advance: Callable[[int], None],
) -> Survey:
    """Read the whole tensor. NonFiniteError, with its place, for a weight that is NaN or Inf."""
    rows = tensor.rows * tensor.experts
    energy, peak = np.empty(rows), np.empty(rows, np.float32)
    digest = Digest(stored)
    for unit in split(tensor, stored.together):
        room = buffers.raw(1, stored.stored_bytes(unit.rows)).reshape(-1)
        reading = Reading(reader, tensor=tensor.name, room=room)
        raw = stored.read(unit.start, unit.stop, reading)
        digest.update(reading.pieces)
        floats = buffers.floats(unit.rows, tensor.cols)
        to_floats(raw, source, floats)
        # Not np.abs(floats).max(…), which would make a copy of the unit.
        peak[unit.start : unit.stop] = np.maximum(floats.max(axis=1), -floats.min(axis=1))
        energy[unit.start : unit.stop] = np.einsum("ij,ij->i", floats, floats)
        if not np.isfinite(peak[unit.start : unit.stop]).all():  # NaN and Inf both come through to the peak
            row = unit.start + int(np.flatnonzero(~np.isfinite(floats).all(axis=1))[0])
            raise NonFiniteError(
                f"{tensor.name}: a weight of row {row % tensor.rows} is NaN or Inf",
                "the model is damaged: download or train it again",
            )
        advance(unit.rows * tensor.cols)
    digest.finish(reader, tensor=tensor.name)
    return Survey(digest=digest.hexdigest(), energy=energy, peak=peak)
