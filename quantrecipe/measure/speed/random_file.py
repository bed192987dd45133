"""A GGUF of random weights: a plan carried out without a model, for nothing but its speed.

A few rows of each format and width are drawn and encoded, and repeated to the end of the tensor: what a processor does
with them, and where it has to fetch them from, is the same as with weights that are all different.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.api import QuantFormat
from quantrecipe.errors import OutputError
from quantrecipe.gguf.write_header import encode_header, padded
from quantrecipe.plan.layout import entries
from quantrecipe.plan.plan import Assignment, Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RandomRows", "write_random"]

_ROWS = 16  # that are drawn of each format and width
_PIECE = 1 << 22  # bytes that are written at a time


class RandomRows:
    """Rows of random weights as formats store them; what was encoded once is kept."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], bytes] = {}

    def of(self, fmt: QuantFormat, cols: int) -> bytes:
        """Some rows of `cols` weights of a normal distribution, small enough that no product overflows."""
        key = (fmt.spec.name, cols)
        if key not in self._known:
            rows: NDArray[np.float32] = np.random.default_rng(0).standard_normal((_ROWS, cols), np.float32)
            rows *= np.float32(cols**-0.5)
            importance = np.ones(cols, np.float32) if fmt.spec.importance == "required" else None
            out = np.empty((_ROWS, fmt.spec.row_bytes(cols)), np.uint8)
            fmt.encode(rows, importance, out=out)
            self._known[key] = out.tobytes()
        return self._known[key]


def write_random(plan: Plan, path: Path, rows: RandomRows) -> None:
    """Write the plan's only file. OutputError where it can't be written."""
    file = plan.files[0]
    head = encode_header(file.metadata, entries(file.assignments, header=file.header), plan.alignment)
    try:
        with path.open("wb") as out:
            out.write(head)
            for assignment in file.assignments:
                _write(out, assignment, rows)
                out.write(bytes(padded(assignment.nbytes, plan.alignment) - assignment.nbytes))
    except OSError as error:
        what = f"can't be written ({error.strerror or error})"
        raise OutputError(what, "--work-dir names another folder", file=path) from error


def _write(out: object, assignment: Assignment, rows: RandomRows) -> None:
    write = out.write  # type: ignore[attr-defined]  # an open file
    tensor, left = assignment.tensor, assignment.nbytes
    if len(tensor.shape) < 2:  # norms are to leave the stream as it is, and biases and the like to do nothing
        value = np.float32(1.0 if "norm" in tensor.role and not tensor.role.endswith(".bias") else 0.0)
        write(np.full(tensor.size, value).tobytes()[:left])
        return
    pattern = rows.of(assignment.format, tensor.cols)
    piece = pattern * max(1, _PIECE // len(pattern))
    while left > 0:
        write(piece[:left])
        left -= len(piece)
