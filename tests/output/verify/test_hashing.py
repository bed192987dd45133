"""Hashes of stretches of files, however they are cut into pieces and whoever takes them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import xxhash

from quantrecipe.errors import ModelError
from quantrecipe.model.source.source import Constant, Extent, Stored
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.progress import Silent
from quantrecipe.output.verify import hashing
from quantrecipe.output.verify.hashing import hash_tensors, nonzero
from quantrecipe.tensor import TensorInfo


class Counted(Silent):
    def __init__(self) -> None:
        self.tensors: list[tuple[str, tuple[str, ...]]] = []
        self.advanced: list[tuple[int, int, int]] = []

    def tensor(self, tensor: TensorInfo, types: tuple[str, ...]) -> None:
        self.tensors.append((tensor.name, types))

    def advance(self, weights: int, read: int, written: int) -> None:
        self.advanced.append((weights, read, written))


def stored(*extents: Extent) -> Stored:
    shape = (sum(extent.nbytes for extent in extents),)
    return Stored(name="a", shape=shape, dtype="I8", extents=extents)


@pytest.fixture(params=[1 << 20, 7])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(hashing, "_CHUNK", request.param)
    return int(request.param)


@pytest.mark.parametrize("threads", [1, 4])
def test_of_several_extents_and_of_none(tmp_path: Path, chunk: int, threads: int) -> None:
    data = bytes(range(256)) * 4
    (tmp_path / "a").write_bytes(data)

    def extent(start: int, stop: int) -> Extent:
        return Extent(path=tmp_path / "a", offset=start, nbytes=stop - start, file_size=len(data))

    sources = {
        "one": stored(extent(3, 24)),
        "two": stored(extent(500, 510), extent(0, 14)),
        "inline": Constant(shape=(4,), dtype="F32", data=b"0123456789abcdef"),
        "empty": stored(extent(9, 9)),
        **{f"n{i}": stored(extent(i, i + 30)) for i in range(20)},
    }
    contents = {
        "one": data[3:24],
        "two": data[500:510] + data[:14],
        "inline": b"0123456789abcdef",
        "empty": b"",
        **{f"n{i}": data[i : i + 30] for i in range(20)},
    }
    tensors = [
        TensorInfo.from_name(name, (max(1, len(content)),), "I8") for name, content in contents.items()
    ]
    counted = Counted()
    with TensorReader() as reader:
        found = hash_tensors(tensors, sources, reader, threads=threads, progress=counted)
    assert found == {name: xxhash.xxh3_128_hexdigest(content) for name, content in contents.items()}
    assert sorted(counted.tensors) == sorted((name, ()) for name in contents)
    assert sum(weights for weights, _, _ in counted.advanced) == sum(t.size for t in tensors)
    read = sum(len(content) for name, content in contents.items() if name != "inline")
    assert sum(nbytes for _, nbytes, _ in counted.advanced) == read
    assert all(written == 0 for _, _, written in counted.advanced)


@pytest.mark.parametrize("place", [None, 5, 6, 11, 12, 30, 39])
def test_the_first_byte_that_isn_t_zero(tmp_path: Path, chunk: int, place: int | None) -> None:
    data = bytearray(b"\1" * 5 + bytes(35) + b"\1" * 5)
    if place is not None:
        data[place] = 9
        data[39] = 9
    (tmp_path / "a").write_bytes(data)
    extent = Extent(path=tmp_path / "a", offset=5, nbytes=35, file_size=len(data))
    with TensorReader() as reader:
        assert nonzero(extent, reader) == place


def test_an_error_stops_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    extent = Extent(path=tmp_path / "a", offset=0, nbytes=200, file_size=None)
    source = stored(extent)
    tensors = [TensorInfo.from_name(f"t{i}", (200,), "I8") for i in range(30)]
    with TensorReader() as reader, pytest.raises(ModelError, match="ends at byte 100, before t"):
        hash_tensors(tensors, {t.name: source for t in tensors}, reader, threads=2, progress=Silent())


def test_what_is_interrupted_leaves_long_tensors_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second tensor is being read when the first one's progress is told."""
    monkeypatch.setattr(hashing, "_CHUNK", 1)
    size, reads, interrupted = 20_000, [], threading.Event()
    (tmp_path / "a").write_bytes(bytes(size))

    class Reader(TensorReader):
        def read(self, *arguments: Any, tensor: str = "") -> None:
            if tensor == "long":
                assert interrupted.wait(20)
                reads.append(tensor)
            super().read(*arguments, tensor=tensor)

    class Impatient(Silent):
        def advance(self, weights: int, read: int, written: int) -> None:
            interrupted.set()
            raise KeyboardInterrupt

    lengths = {"short": 1, "long": size}
    sources = {
        name: stored(Extent(path=tmp_path / "a", offset=0, nbytes=length, file_size=size))
        for name, length in lengths.items()
    }
    tensors = [TensorInfo.from_name(name, (length,), "I8") for name, length in lengths.items()]
    with Reader() as reader, pytest.raises(KeyboardInterrupt):
        hash_tensors(tensors, sources, reader, threads=2, progress=Impatient())
    assert len(reads) < size
