"""Reading: where stored bytes go, which are kept for a hash, and what was read in all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.sources import stored

from quantrecipe.errors import ModelError
from quantrecipe.model.source import layout
from quantrecipe.model.source.layout import Transpose, concat
from quantrecipe.model.source.reading import Reading, read_places, read_whole
from quantrecipe.model.source.source import Constant
from quantrecipe.model.tensor_reader import TensorReader

VALUES = np.arange(24, dtype=np.uint16).reshape(6, 4)


def test_stored_bytes_go_into_the_room(tmp_path: Path) -> None:
    source = stored(tmp_path / "a", VALUES, "BF16")
    room = np.zeros(40, np.uint8)
    with TensorReader() as reader:
        reading = Reading(reader, room=room)
        first, second = source.read(0, 3, reading), source.read(3, 5, reading)
        third = source.read(4, 6, reading)  # for which no room is left
    assert first.base is room or np.shares_memory(first, room)
    assert np.shares_memory(second, room)
    assert not np.shares_memory(third, room)
    assert room.tobytes() == VALUES[:5].tobytes()
    assert third.tobytes() == VALUES[4:].tobytes()
    assert [(piece.leaf, piece.offset, piece.data.size) for piece in reading.pieces] == [
        (source, 0, 24),
        (source, 24, 16),
        (source, 32, 16),
    ]
    assert reading.nbytes == 56


def test_what_passes_by_is_counted_and_not_kept(tmp_path: Path) -> None:
    source = stored(tmp_path / "a", VALUES, "BF16")
    with TensorReader() as reader:
        reading = Reading(reader)
        Transpose(source=source).read(0, 4, reading)
        assert (reading.pieces, reading.nbytes) == ([], 48)


def test_constants_are_kept_and_not_counted() -> None:
    constant = Constant(shape=(2, 2), dtype="F32", data=bytes(range(16)))
    with TensorReader() as reader:
        reading = Reading(reader)
        constant.read(1, 2, reading)
    (piece,) = reading.pieces
    assert (piece.leaf, piece.offset, piece.data.tobytes()) == (constant, 8, bytes(range(8, 16)))
    assert reading.nbytes == 0


def test_errors_of_a_reading_name_the_tensor(tmp_path: Path) -> None:
    source = stored(tmp_path / "a", VALUES, "BF16")
    (tmp_path / "a").write_bytes(bytes(20))
    said = "a: has 20 bytes, but had 62 when its header was read"
    with TensorReader() as reader, pytest.raises(ModelError, match=said):
        read_whole(source, reader)
    (tmp_path / "a").unlink()
    with TensorReader() as reader, pytest.raises(ModelError, match=r"in output\.weight: No such file"):
        read_whole(source, reader, tensor="output.weight")


def test_whole_tensors_have_their_shapes(tmp_path: Path) -> None:
    with TensorReader() as reader:
        halves = stored(tmp_path / "a", np.array([[0x3F80, 0xC000]], np.uint16), "BF16")
        assert read_whole(halves, reader).tolist() == [[1.0, -2.0]]
        integers = stored(tmp_path / "b", np.array([[[7], [-9]]], np.int64), "I64")
        assert read_whole(integers, reader).tolist() == [[[7], [-9]]]
        both = concat([halves, halves])
        assert read_whole(both, reader).shape == (2, 2)
        scalar = stored(tmp_path / "c", np.array(2.5, np.float32), "F32")
        assert read_whole(scalar, reader).shape == ()


@pytest.mark.parametrize("places", [[], [0], [3, 4, 5, 9, 11], [0, 1, 2, 12, 13, 23], [*range(24)]])
def test_single_rows(places: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a transposed matrix, those of a slab come from one pass over the matrix."""
    monkeypatch.setattr(layout, "SLAB", 0)
    values = np.arange(2 * 5 * 12, dtype=np.uint16).reshape(2, 5, 12)
    plain = stored(tmp_path / "a", values.reshape(24, 5), "BF16")
    turned = Transpose(source=stored(tmp_path / "b", values, "BF16"))
    found = np.empty((len(places), 10), np.uint8)
    with TensorReader() as reader:
        reading = Reading(reader)
        read_places(plain, np.array(places, np.int64), reading, found)
        assert found.tobytes() == values.reshape(24, 5)[places].tobytes()
        assert reading.nbytes == 10 * len(places)
        reading = Reading(reader)
        read_places(turned, np.array(places, np.int64), reading, found)
        assert found.tobytes() == values.swapaxes(1, 2).reshape(24, 5)[places].tobytes()
        assert reading.nbytes == 120 * len({place // 12 for place in places})
