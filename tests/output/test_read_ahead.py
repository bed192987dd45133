"""ReadAhead: it reads in order, as much as it may, until it is left; and what can't be read stops nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from quantrecipe.output import read_ahead
from quantrecipe.output.read_ahead import ReadAhead


def reached(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(read_ahead, "_PIECE", 1000)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(2500))
    return [tmp_path / "a", tmp_path / "none", tmp_path, tmp_path / "b"]


def test_all_files_are_read_that_can_be(files: list[Path]) -> None:
    with ReadAhead(files) as ahead:
        assert reached(lambda: ahead.read == 5000)


def test_no_more_is_read_than_there_is_room_for(files: list[Path]) -> None:
    with ReadAhead(files, most=1500) as ahead:
        assert reached(lambda: ahead.read >= 1500)
    assert ahead.read == 2000


def test_it_ends_when_it_is_left(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    files[0].write_bytes(bytes(50_000_000))
    monkeypatch.setattr(read_ahead, "_PIECE", 10)
    with ReadAhead(files) as ahead:
        pass
    at_the_end = ahead.read
    assert at_the_end < 50_000_000
    time.sleep(0.02)
    assert ahead.read == at_the_end
