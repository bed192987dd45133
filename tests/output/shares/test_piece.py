"""A piece is complete under its name or not there, and says what it is; damage of what it says is noticed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import OutputError
from quantrecipe.output.shares.make import MadeRange, MadeUnit
from quantrecipe.output.shares.piece import NewPiece, read_piece

MADE = MadeUnit(
    number=3,
    nbytes=10,
    ranges=(
        MadeRange(tensor="a", start=0, stop=2, offset=0, nbytes=6, data="d1", source="s1", lost=4),
        MadeRange(
            tensor="b",
            start=8,
            stop=9,
            offset=6,
            nbytes=4,
            data="d2",
            remarked=2,
            remarks=("damped", "more"),
            said=((0, "damped"), (7, "more")),
        ),
    ),
    sources=(("c", "s3"),),
    read=99,
    from_store=("a",),
    problems=("full",),
)


def write(path: Path, run: str = "run") -> None:
    with NewPiece(path) as piece:
        piece.write(memoryview(b"6789"), 6)
        piece.write(memoryview(b"012345"), 0)
        piece.finish(MADE, run)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "000003.piece"
    write(path)
    assert path.read_bytes().startswith(b"0123456789\n")
    assert read_piece(path, "run") == MADE
    assert [it.name for it in tmp_path.iterdir()] == [path.name]


def test_another_run_s_piece_is_none(tmp_path: Path) -> None:
    write(tmp_path / "p")
    assert read_piece(tmp_path / "p", "another") is None


def test_the_same_unit_may_be_made_twice(tmp_path: Path) -> None:
    write(tmp_path / "p")
    write(tmp_path / "p")
    assert read_piece(tmp_path / "p", "run") == MADE


def test_what_isn_t_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), NewPiece(tmp_path / "p") as piece:
        piece.write(memoryview(b"0"), 0)
        assert not (tmp_path / "p").exists()
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_wherever_it_is_cut_or_changed_behind_the_bytes_it_is_none(tmp_path: Path) -> None:
    path = tmp_path / "p"
    write(path)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert read_piece(path, "run") is None, length
    for place in range(10, len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert read_piece(path, "run") is None, place
    path.write_bytes(b"0" + data)
    assert read_piece(path, "run") is None


def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OutputError, match=r"is full while writing p"), NewPiece(tmp_path / "p") as piece:
        monkeypatch.setattr(os, "pwrite", full)
        piece.write(memoryview(b"0"), 0)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_loses_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, "lost")

    with pytest.raises(OutputError, match="lost"), NewPiece(tmp_path / "p") as piece:
        piece.write(memoryview(b"0123456789"), 0)
        monkeypatch.setattr(os, "fsync", failing)
        piece.finish(MADE, "run")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_t_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="gone"):
        NewPiece(tmp_path / "gone" / "p")
