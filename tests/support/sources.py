"""Sources that tests read: content in a file, behind seven bytes of something else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantrecipe.model.source.reading import Reading
from quantrecipe.model.source.source import Extent, Stored, TensorSource
from quantrecipe.model.tensor_reader import TensorReader

__all__ = ["in_any_runs", "stored", "whole"]

_HEADER = b"header!"


def stored(path: Path, values: NDArray[Any], dtype: str, name: str = "a") -> Stored:
    """The values in a file that has this name; of types that NumPy lacks, their bits."""
    path.write_bytes(_HEADER + values.tobytes() + b"trailer")
    extent = Extent(
        path=path, offset=len(_HEADER), nbytes=values.nbytes, file_size=values.nbytes + 2 * len(_HEADER)
    )
    return Stored(name=name, shape=values.shape, dtype=dtype, extents=(extent,))


def whole(source: TensorSource) -> NDArray[np.uint8]:
    """All rows at once."""
    with TensorReader() as reader:
        return source.read(0, source.total_rows, Reading(reader))


def in_any_runs(source: TensorSource, cuts: Sequence[int]) -> NDArray[np.uint8]:
    """All rows, in runs that begin and end anywhere."""
    edges = sorted({0, source.total_rows, *(cut % (source.total_rows + 1) for cut in cuts)})
    with TensorReader() as reader:
        found = [source.read(first, last, Reading(reader)) for first, last in pairwise(edges)]
    for it, (first, last) in zip(found, pairwise(edges), strict=True):
        assert it.shape == (last - first, source.row_bytes)
        assert it.dtype == np.uint8
        assert it.flags.c_contiguous
    return np.concatenate(found) if found else np.empty((0, source.row_bytes), np.uint8)
