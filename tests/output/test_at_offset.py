"""write_all, read_all: all bytes, at their offset, however few a call takes; and where no calls are positional."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import pytest

from quantrecipe.output.at_offset import read_all, write_all

DATA = bytes(range(256)) * 4


@pytest.fixture(params=["positional", "seeking"])
def fd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    if request.param == "seeking":
        for name in ("pwrite", "preadv"):
            monkeypatch.delattr(os, name, raising=False)
    path = tmp_path / "file"
    path.write_bytes(b"." * 2000)
    opened = os.open(path, os.O_RDWR)
    yield opened
    os.close(opened)


def test_bytes_go_where_they_belong_and_come_back(fd: int) -> None:
    write_all(fd, memoryview(DATA), 300, Lock())
    out = bytearray(len(DATA))
    assert read_all(fd, memoryview(out), 300, Lock())
    assert bytes(out) == DATA
    os.lseek(fd, 0, os.SEEK_SET)
    assert os.read(fd, 5000) == b"." * 300 + DATA + b"." * (2000 - 300 - len(DATA))


def test_any_array_is_bytes(fd: int) -> None:
    write_all(fd, memoryview(DATA).cast("I"), 8, Lock())
    out = memoryview(bytearray(len(DATA))).cast("Q")
    assert read_all(fd, out, 8, Lock())
    assert out.tobytes() == DATA


def test_few_at_a_time(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call may take less than it was given, and give less than was asked for."""
    if hasattr(os, "pwrite"):
        pwrite, preadv = os.pwrite, os.preadv
        monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:100], offset))
        monkeypatch.setattr(os, "preadv", lambda fd, rooms, offset: preadv(fd, [rooms[0][:70]], offset))
    else:
        write, read = os.write, os.read
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:100]))
        monkeypatch.setattr(os, "read", lambda fd, count: read(fd, min(count, 70)))
    write_all(fd, memoryview(DATA), 41, Lock())
    out = bytearray(len(DATA))
    assert read_all(fd, memoryview(out), 41, Lock())
    assert bytes(out) == DATA


def test_a_file_that_ends_before(fd: int) -> None:
    assert not read_all(fd, memoryview(bytearray(100)), 1950, Lock())


def test_what_fails_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    opened = os.open(path, os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        write_all(opened, memoryview(DATA), 0, Lock())
    os.close(opened)
