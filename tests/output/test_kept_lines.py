"""What a crash takes of the last lines is cut off; every other change is named; nothing is written behind a failure."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import OutputError
from quantrecipe.output import kept_lines
from quantrecipe.output.kept_lines import DamagedLineError, KeptLines

BUSY = OutputError("busy")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def opened(path: Path, **more: Any) -> KeptLines:
    return KeptLines(path, busy=BUSY, **{"private": True} | more)


def written(path: Path, *said: dict[str, Any], end: bool = True) -> None:
    """Lines of one run; end: which isn't killed."""
    file = opened(path)
    for it in said:
        file.append(it)
    if not end:
        file._size = file._before
    file.close()


def left(path: Path, **more: Any) -> list[dict[str, Any]]:
    file = opened(path, **more)
    file.close()
    return [said for _, said in file.lines]


ONE, TWO, THREE = {"a": 1}, {"a": "zwei ü"}, {"b": [3]}


def test_what_was_written_is_there_over_many_runs(path: Path) -> None:
    written(path, ONE, TWO)
    written(path, THREE)
    assert left(path) == [ONE, TWO, THREE]
    before = path.read_bytes()
    assert left(path) == [ONE, TWO, THREE]
    assert path.read_bytes() == before  # whoever only looks adds nothing


def test_every_bit_that_changes_is_named(path: Path) -> None:
    """Or takes the last mark away, which holds nothing; with the line before it where both become one."""
    written(path, ONE, TWO, THREE)
    whole = path.read_bytes()
    mark = whole.rindex(b'{"disk"')
    for place in range(len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            path.write_bytes(data)
            try:
                found = left(path)
            except DamagedLineError as error:
                assert error.problem.file == path
                assert error.problem.line == whole[:place].count(b"\n") + 1
                continue
            assert place >= mark - 1
            assert found == [ONE, TWO, THREE][: 2 if place < mark else 3]


@pytest.mark.parametrize("end", [False, True], ids=["killed", "ended"])
def test_a_file_that_ends_anywhere_is_a_crash_or_named(path: Path, end: bool) -> None:
    written(path, ONE, TWO, THREE, end=end)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        found = left(path)
        assert found == [ONE, TWO, THREE][: whole[:size].count(b"\n")][:3]
    assert opened(path)


@pytest.mark.parametrize("begin", [0, 3, 70])
def test_what_a_power_cut_takes_of_lines_that_were_not_on_the_disk(
    path: Path, begin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(path, ONE)
    monkeypatch.setattr(kept_lines, "_SYNC_SECONDS", 1e9)
    file = opened(path)
    file._synced_at = 1e18  # just now
    place = path.stat().st_size
    for _ in range(4):
        file.append(TWO)
    data = bytearray(path.read_bytes())
    file._size = file._before
    file.close()
    data[place + begin : place + begin + 60] = bytes(60)
    path.write_bytes(data)
    assert left(path) == [ONE, TWO][: 2 if begin == 70 else 1]
    written(path, THREE)
    assert left(path)[-1] == THREE


def test_what_is_on_the_disk_is_noted_in_what_follows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_lines, "_SYNC_SECONDS", 0.0)
    written(path, ONE, TWO, THREE, end=False)
    lines = path.read_bytes().splitlines(keepends=True)
    marks = [json.loads(line)["disk"] for line in lines]
    assert marks == [0, len(lines[0]), len(lines[0] + lines[1])]
    path.write_bytes(lines[0] + lines[1].replace(b"zwei", b"drei") + lines[2])
    with pytest.raises(DamagedLineError):
        left(path)


def test_damage_is_cut_off_where_it_comes_out_the_same(path: Path) -> None:
    written(path, ONE, TWO, THREE)
    path.write_bytes(path.read_bytes().replace(b"zwei", b"drei"))
    file = opened(path, forgive=True)
    assert file.damaged == 2
    file.append(THREE)
    file.close()
    assert left(path) == [ONE, THREE]


def test_a_line_may_be_taken_away(path: Path) -> None:
    """As the remedy says."""
    written(path, ONE, TWO, THREE)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))
    assert left(path) == [ONE, THREE]
    written(path, TWO)
    assert left(path) == [ONE, THREE, TWO]


def test_all_but_the_first_lines_can_be_dropped(path: Path) -> None:
    written(path, ONE, TWO, THREE)
    file = opened(path)
    file.restart(1)
    file.append(THREE)
    file.close()
    assert left(path) == [ONE, THREE]


def test_short_writes_are_gone_on_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:7]))
    written(path, ONE, TWO)
    assert left(path) == [ONE, TWO]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_disk_that_fails_leaves_what_surely_is_there(
    path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(path, ONE)
    monkeypatch.setattr(kept_lines, "_SYNC_SECONDS", 0.0)
    real = getattr(os, call)

    def fails(fd: int, *data: bytes) -> int:
        if call == "write":
            real(fd, bytes(data[0])[:9])
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    file = opened(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(OutputError, match=r"can't write .*journal: .*look at the disk"):
            file.append(TWO)
    with pytest.raises(OutputError):  # and not behind a hole
        file.append(THREE)
    file.close()
    assert left(path) == [ONE]


def test_what_a_failed_fsync_may_have_lost_is_taken_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All since the last one that succeeded: the system says so once only, and reads it from memory meanwhile."""
    monkeypatch.setattr(kept_lines, "_SYNC_SECONDS", 1e9)
    file = opened(path)
    file.append(ONE)
    file._sync()
    for said in (TWO, THREE):
        file.append(said)
    monkeypatch.setattr(kept_lines, "_SYNC_SECONDS", 0.0)

    def fails(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OutputError):
            file.append(TWO)
        file.close()
    assert left(path) == [ONE]


def test_one_process_at_a_time(path: Path) -> None:
    file = opened(path)
    with pytest.raises(OutputError, match="busy"):
        opened(path)
    file.remove()
    assert not path.exists()
    opened(path).close()


@pytest.mark.skipif(os.name != "posix", reason="elsewhere no open file is removed")
def test_who_waited_for_a_file_that_is_removed_gets_a_new_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(path, ONE)
    lock, times = kept_lines.lock, []

    def removed_first(fd: int) -> None:
        if not times:
            path.unlink()
        times.append(fd)
        lock(fd)

    monkeypatch.setattr(kept_lines, "lock", removed_first)
    file = opened(path)
    assert len(times) == 2
    file.append(TWO)
    file.close()
    assert left(path) == [TWO]


@pytest.mark.skipif(os.name != "posix", reason="there are no modes")
@pytest.mark.parametrize(("private", "mode"), [(True, 0o600), (False, 0o644)])
def test_who_may_read_it(path: Path, private: bool, mode: int) -> None:
    before = os.umask(0o022)
    try:
        opened(path, private=private).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix", reason="Windows asks for rights to make links")
def test_links(path: Path, tmp_path: Path) -> None:
    """A file of the user's may lie elsewhere; of a temporary one nobody makes a link."""
    other = tmp_path / "other"
    other.write_bytes(b"")
    path.symlink_to(other)
    with pytest.raises(OutputError):
        opened(path)
    file = opened(path, private=False)
    file.append(ONE)
    file.close()
    assert left(other) == [ONE]
