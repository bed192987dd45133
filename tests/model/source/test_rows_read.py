"""What is ordered in advance for a run of rows is what is read of them, and not much more."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from support.huggingface import MODELS, write_model

from quantrecipe.model.open_model import open_model
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.source.rows_read import read_for
from quantrecipe.model.source.source import Extent, TensorSource
from quantrecipe.model.tensor_reader import TensorReader

Range = tuple[Path, int, int]


class Noting(TensorReader):
    """Notes the bytes of files that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[Range] = []

    def _read(self, extent: Extent, begin: int, piece: memoryview, tensor: str) -> None:
        first = extent.offset + begin
        self.noted.append((extent.path, first, first + len(piece)))
        super()._read(extent, begin, piece, tensor)


def read(source: TensorSource, start: int, stop: int) -> list[Range]:
    with Noting() as reader:
        source.read(start, stop, Reading(reader, room=np.empty(0, np.uint8)))
        return merged(reader.noted)


def said(source: TensorSource, start: int, stop: int) -> list[Range]:
    return merged((it.path, it.offset, it.offset + it.nbytes) for it in read_for(source, start, stop))


def merged(ranges: Iterable[Range]) -> list[Range]:
    found: list[Range] = []
    for path, begin, end in sorted(it for it in ranges if it[1] < it[2]):
        if found and found[-1][0] == path and begin <= found[-1][2]:
            found[-1] = path, found[-1][1], max(found[-1][2], end)
        else:
            found.append((path, begin, end))
    return found


def within(some: list[Range], more: list[Range]) -> bool:
    return all(
        any(it[0] == path and it[1] <= begin and end <= it[2] for it in more) for path, begin, end in some
    )


@pytest.mark.parametrize("name", MODELS)
def test_all_that_is_read_was_said(name: str, tmp_path: Path) -> None:
    model = open_model(write_model(name, tmp_path))
    for source in model.sources.values():
        rows = source.total_rows
        assert within(read(source, 0, rows), said(source, 0, rows))
        for start, stop in ((0, rows // 2), (rows // 2, rows), (rows // 3, rows // 3 + 1), (1, 1)):
            assert within(read(source, start, stop), said(source, start, stop))


def test_of_stored_rows_and_of_experts_no_others_are_said(tmp_path: Path) -> None:
    model = open_model(write_model("mixtral" if "mixtral" in MODELS else sorted(MODELS)[0], tmp_path))
    exact = [it for it in model.sources.values() if it.total_rows > 1 and it.rows > 1]
    assert exact
    for source in exact:
        begin, end = source.rows * (source.total_rows // source.rows // 2), source.total_rows
        assert said(source, begin, end) == read(source, begin, end)
