"""A file that is fetched in blocks: all bytes right, each once; what is expected comes alone, and nothing stays."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.remote import BlockFile, Blocks, RemotePlace, blocks, open_places
from quantrecipe.remote_files import add_remote_file, expecting, remote_file

SIZE, BLOCK = 1003, 100
DATA = random.Random(1).randbytes(SIZE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Here(RemotePlace):
    """A place in this process, which notes what is fetched."""

    folder: Path
    identity: str = "here#1"
    key: str = "here-1"
    sha256: str = ""
    size: int = SIZE
    fetched: list[tuple[int, int]] = field(default_factory=list, compare=False)

    def fetch(self, start: int, count: int) -> bytes:
        self.fetched.append((start, start + count))
        return DATA[start : start + count]

    def __str__(self) -> str:
        return "here"


@pytest.fixture
def place(tmp_path: Path) -> Here:
    return Here(folder=tmp_path / "blocks")


@pytest.fixture
def file(place: Here) -> BlockFile:
    return BlockFile(place, Blocks(place.folder, size=BLOCK))


def read(file: BlockFile, start: int, stop: int) -> bytes:
    out = bytearray(stop - start)
    file.read_into(memoryview(out), start)
    return bytes(out)


def lying(place: Here) -> list[str]:
    return sorted(it.name for it in place.folder.rglob("*") if it.is_file())


@pytest.mark.parametrize(
    "ranges",
    [
        [(0, SIZE)],
        [(150, 160)],
        [(100, 300)],
        [(95, 105), (105, 130), (700, 702)],
        [(900, SIZE)],
        [(3, 3), (40, 60), (50, 70)],
    ],
    ids=str,
)
def test_what_is_expected_is_fetched_once_and_doesn_t_stay(
    ranges: list[tuple[int, int]], place: Here, file: BlockFile
) -> None:
    expected = file.expect(ranges)
    for _ in range(2):
        for begin, end in ranges:
            assert read(file, begin, end) == DATA[begin:end]
    file.unexpect(expected)
    wanted = {it for begin, end in ranges for it in range(begin, end)}
    found = [it for begin, end in place.fetched for it in range(begin, end)]
    assert len(found) == len(set(found))
    assert set(found) == wanted
    assert lying(place) == []


def test_what_nobody_expected_is_read_all_the_same(place: Here, file: BlockFile) -> None:
    expected = file.expect([(100, 110)])
    assert read(file, 105, 420) == DATA[105:420]
    assert read(file, 990, SIZE) == DATA[990:]
    file.unexpect(expected)
    assert all(end - begin <= BLOCK for begin, end in place.fetched)


def test_what_two_expect_stays_until_both_are_done(place: Here, file: BlockFile) -> None:
    one, two = file.expect([(0, 150)]), file.expect([(0, 100), (300, 310)])
    read(file, 0, 150)
    file.unexpect(one)
    assert lying(place) == ["000000"]
    read(file, 0, 100)
    file.unexpect(two)
    assert lying(place) == []
    assert place.fetched.count((0, 100)) == 1


def test_expecting_is_for_files_that_lie_elsewhere_alone(
    tmp_path: Path, place: Here, file: BlockFile
) -> None:
    path = tmp_path / "model.gguf"
    add_remote_file(path, file, place)
    with expecting({path: [(250, 260)], tmp_path / "another": [(0, 1)]}):
        read(file, 250, 260)
    assert place.fetched == [(250, 260)]


def test_without_more_said_whole_blocks_come_and_some_in_advance(place: Here, file: BlockFile) -> None:
    assert read(file, 10, 20) == DATA[10:20]
    for number in range(1, 9):
        file._blocks.want(file._key, file._blocks.whole(number), lambda: b"").result()
    assert sorted(place.fetched) == [(at, at + BLOCK) for at in range(0, 900, BLOCK)]


def test_beyond_its_end_there_is_nothing(file: BlockFile) -> None:
    with pytest.raises(ModelError, match="here ends before byte 1,004; it isn't what its header says"):
        read(file, 1000, 1004)


def test_a_room_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRECIPE_HUB_ROOM", "much")
    with pytest.raises(ModelError, match="QUANTRECIPE_HUB_ROOM: "):
        Blocks(tmp_path)


def test_a_worker_reads_what_it_has_itself(
    tmp_path: Path, place: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", BLOCK)
    there, empty = tmp_path / "there", tmp_path / "empty"
    there.write_bytes(DATA)
    empty.touch()  # what stands for a file elsewhere
    open_places([(there, place), (empty, place), (tmp_path / "gone", place)])
    assert remote_file(there) is None
    for path in (empty, tmp_path / "gone"):
        found = remote_file(path)
        assert isinstance(found, BlockFile)
        assert read(found, 0, 10) == DATA[:10]
