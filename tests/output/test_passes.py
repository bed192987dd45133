"""Passes over a tensor's rows: each unit by itself, in any order; what they come to is of the whole."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import xxhash
from numpy.typing import NDArray
from support.formats import format_type

from quantrecipe.errors import NonFiniteError
from quantrecipe.model.source.layout import rope_order
from quantrecipe.model.source.source import Extent, Stored
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.jobs import Encoding
from quantrecipe.output.passes import CopyOld, Encode, FindPeaks, Slot, StoredRows
from quantrecipe.output.reuse import OldTensor
from quantrecipe.output.row_units import split
from quantrecipe.tensor import TensorInfo

SHAPE = (2, 40, 64)
ROWS_IN_A_UNIT = 16


class Sink:
    """Keeps what is written, by offset."""

    def __init__(self) -> None:
        self.data: dict[int, bytes] = {}

    def write(self, data: memoryview, offset: int) -> None:
        self.data[offset] = bytes(data)

    def whole(self) -> bytes:
        return b"".join(self.data[offset] for offset in sorted(self.data))


class FakeJob:
    """What a pass asks of a job."""

    def __init__(self, type_: str, *, copied: bool = False) -> None:
        self.sink = Sink()
        self.assignment = self
        self.encoder = self.statistics = self.entry = None
        self.format, self.copied, self.offset = format_type(type_)(), copied, 1000


@pytest.fixture
def values() -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal(SHAPE, np.float32)


class Made:
    """Rows stored in a file, and the passes over them."""

    def __init__(
        self, path: Path, values: NDArray[np.float32], *, heads: int = 0, nan: Any = "error"
    ) -> None:
        path.write_bytes(b"before" + values.tobytes())
        self.told: list[tuple[int, int, int]] = []
        self.tensor = TensorInfo.from_name("blk.0.ffn_up_exps.weight", SHAPE, "F32")
        floats: SimpleQueue[NDArray[np.float32]] = SimpleQueue()
        floats.put(np.empty(5 * SHAPE[-1], np.float32))
        extent = Extent(path=path, offset=6, nbytes=values.nbytes)
        stored = Stored(name="up", shape=SHAPE, dtype="F32", extents=(extent,))
        self.rows = StoredRows(
            tensor=self.tensor,
            source=rope_order(stored, heads) if heads else stored,
            format=format_type("F32")(),
            group=1,
            reader=TensorReader(),
            floats=floats,
            nan=nan,
            tell=lambda *done: self.told.append(done),
        )

    def run(self, one: Any) -> None:
        """Units are worked on from the last to the first, and collected in order."""
        units = list(split(self.tensor, 4, ROWS_IN_A_UNIT * SHAPE[-1]))
        assert len(units) == 6
        done = one.over(units)
        slots = [Slot(np.empty(1 << 13, np.uint8), np.empty(1 << 13, np.uint8)) for _ in units]
        with self.rows.reader:
            backwards = reversed(list(zip(units, slots, strict=True)))
            results = [done.work(unit, slot) for unit, slot in backwards]
        for unit, result in zip(units, reversed(results), strict=True):
            done.collect(unit, result)


def encoding(*jobs: FakeJob, **more: Any) -> Encoding:
    jobs_: Any = jobs
    return Encoding(jobs=jobs_, importance=None, old=more.pop("old", None), **more)


def digest(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(data)


def test_the_peaks_of_experts(tmp_path: Path, values: NDArray[np.float32]) -> None:
    values[0, 39, 3], values[1, 17, 0] = -77, 99
    made = Made(tmp_path / "m", values)
    peaks = FindPeaks(made.rows)
    made.run(peaks)
    assert peaks.found.tolist() == [77, 99]
    assert sum(read for _, read, _ in made.told) == values.nbytes
    assert {(weights, written) for weights, _, written in made.told} == {(0, 0)}


def test_several_encodings_at_once(tmp_path: Path, values: NDArray[np.float32]) -> None:
    """One is the source's bytes, so its digest is the source's."""
    made = Made(tmp_path / "m", values)
    twice, copy = (FakeJob("Q8_0"), FakeJob("Q8_0")), FakeJob("F32", copied=True)
    encode = Encode(made.rows, [encoding(*twice), encoding(copy)])
    made.run(encode)
    expected = format_type("Q8_0")().encode(values.reshape(-1, SHAPE[-1])).tobytes()
    assert twice[0].sink.whole() == twice[1].sink.whole() == expected
    assert min(twice[0].sink.data) == 1000
    assert copy.sink.whole() == values.tobytes()
    assert encode.source == digest(values.tobytes())
    assert encode.written == [digest(expected), encode.source]
    assert encode.lost == [0, 0]
    assert [sum(column) for column in zip(*made.told, strict=True)] == [
        values.size,
        values.nbytes,
        values.nbytes + len(expected),
    ]


def test_rows_that_change_places_are_copied_in_their_new_order(
    tmp_path: Path, values: NDArray[np.float32]
) -> None:
    made = Made(tmp_path / "m", values, heads=20)
    copy = FakeJob("F32", copied=True)
    encode = Encode(made.rows, [encoding(copy)])
    made.run(encode)
    expected = values.reshape(-1, 2, 2, SHAPE[-1]).swapaxes(1, 2).tobytes()
    assert copy.sink.whole() == expected
    assert encode.source == digest(values.tobytes())
    assert encode.written == [digest(expected)]


@pytest.mark.parametrize("others", [[], ["Q8_0"], ["F32"], ["F32", "Q8_0"]])
def test_what_isn_t_finite_stops_every_kind_of_pass(
    others: list[str], tmp_path: Path, values: NDArray[np.float32]
) -> None:
    values[1, 30, 7] = np.nan
    made = Made(tmp_path / "m", values)
    encodings = [encoding(FakeJob(name, copied=name == "F32")) for name in others]
    with pytest.raises(NonFiniteError, match="nan at expert 1, row 30, column 7"):
        made.run(Encode(made.rows, encodings))


def test_weights_that_are_lost_are_counted(tmp_path: Path, values: NDArray[np.float32]) -> None:
    values[0, 1, 2] = values[1, 30, 7] = values[1, 30, 8] = np.inf
    made = Made(tmp_path / "m", values, nan="allow")
    encode = Encode(made.rows, [encoding(FakeJob("Q8_0")), encoding(FakeJob("BF16"))], again=True)
    made.run(encode)
    assert encode.lost == [3, 0]
    assert {weights for weights, _, _ in made.told} == {0}  # they were counted before


@pytest.mark.parametrize(
    ("recorded", "scale", "good"), [(True, 0, True), (False, 0, False), (True, 0x7C00, False)]
)
def test_copies_of_an_older_file(
    recorded: bool, scale: int, good: bool, tmp_path: Path, values: NDArray[np.float32]
) -> None:
    """Only what is as it was recorded, and finite, counts."""
    data = format_type("Q8_0")().encode(values.reshape(-1, SHAPE[-1]))
    if scale:
        data[70, 0:2].view(np.uint16)[0] = scale
    (tmp_path / "old").write_bytes(b"header" + data.tobytes())
    extent = Extent(path=tmp_path / "old", offset=6, nbytes=data.nbytes)
    old = OldTensor(
        extent=extent, encoding="", source="", data=digest(data.tobytes()) if recorded else "other"
    )
    made, job = Made(tmp_path / "m", values), FakeJob("Q8_0")

    def read(begin: int, out: NDArray[np.uint8]) -> bool:
        made.rows.reader.read((extent,), begin, out)
        return True

    copy = CopyOld(made.rows, encoding(job, old=old), old.data, read)
    made.run(copy)
    assert copy.is_what_was_recorded is good
    assert job.sink.whole() == data.tobytes()
    assert sum(read for _, read, _ in made.told) == data.nbytes
