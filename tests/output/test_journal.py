"""What was noted is read again; what a crash cut off is forgiven, what the disk has damaged is named."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xxhash

from quantrecipe.errors import OutputError
from quantrecipe.output.journal import Journal, journal_path
from quantrecipe.output.journal_records import MadeRows, MadeTensor

KEY = {"plan": "a", "model": ["m.gguf", 1]}
ROWS = MadeRows(digest="0123456789abcdef", source="f" * 16, lost=2, remark=(3, "damped"))
DONE = MadeTensor(source="s", data="d", lost=1, remarked=2, remarks=("ä", "b"), reused=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return journal_path(tmp_path / "out.gguf")


def opened(path: Path, key: dict[str, Any] = KEY) -> Journal:
    return Journal(path, key, lambda old, new: f"{old['plan']}, now {new['plan']}")


@pytest.fixture
def filled(path: Path) -> Path:
    """Six records; all but the last two are known to be on the disk."""
    journal = opened(path)
    journal.add_rows(4, 0, 10, ROWS)
    journal.add_rows(5, 0, 20, MadeRows(digest="f" * 16, source=""))
    journal.add_done(4, DONE)
    journal.sync()
    journal.add_rows(5, 20, 40, ROWS)
    journal.close()
    return path


def test_all_of_it_is_read_again(filled: Path) -> None:
    journal = opened(filled)
    assert journal.done == {4: DONE}
    assert journal.rows == {5: {(0, 20): MadeRows(digest="f" * 16, source=""), (20, 40): ROWS}}
    assert (journal.noted, journal.noted_rows) == ({4}, {5: 40})
    assert not journal.empty
    assert journal.other == ""
    journal.close()


def test_it_grows_by_what_is_noted_alone(filled: Path) -> None:
    before = filled.read_bytes()
    opened(filled).close()
    assert filled.read_bytes() == before
    journal = opened(filled)
    journal.add_done(5, DONE)
    journal.close()
    assert filled.read_bytes().startswith(before)
    again = opened(filled)
    assert (again.rows, set(again.done)) == ({}, {4, 5})
    again.close()


def test_only_its_owner_may_read_it(filled: Path) -> None:
    if os.name == "posix":
        assert stat.S_IMODE(filled.stat().st_mode) == 0o600


def test_one_of_another_key_is_emptied_and_told(filled: Path) -> None:
    journal = opened(filled, KEY | {"plan": "b"})
    assert journal.other == "a, now b"
    assert journal.empty
    assert not journal.rows
    assert not journal.done
    journal.close()
    assert len(filled.read_bytes().splitlines()) == 1


def test_restart_forgets(filled: Path) -> None:
    journal = opened(filled)
    journal.restart()
    journal.add_rows(9, 0, 1, ROWS)
    journal.close()
    again = opened(filled)
    assert again.rows == {9: {(0, 1): ROWS}}
    assert not again.done
    again.close()


@pytest.mark.parametrize("end", [b"", b"\0" * 50, b"\n", b"garbage\n", b"\xff" * 5000])
def test_wherever_the_tail_is_torn(filled: Path, end: bytes) -> None:
    """Up to the mark of what is on the disk; what is whole before the tear is kept, and work goes on behind it."""
    whole = filled.read_bytes()
    lines = whole.splitlines(keepends=True)
    for size in range(len(whole) - len(lines[-1]), len(whole)):
        filled.write_bytes(whole[:size] + end)
        journal = opened(filled)
        assert journal.done == {4: DONE}
        assert set(journal.rows.get(5, {})) >= {(0, 20)}
        journal.add_rows(7, 1, 2, ROWS)
        journal.close()
        again = opened(filled)
        assert again.rows[7] == {(1, 2): ROWS}
        again.close()


def test_a_flipped_bit_is_named_where_it_was_on_the_disk(filled: Path) -> None:
    whole = filled.read_bytes()
    lines = whole.splitlines(keepends=True)
    marked = sum(map(len, lines[:4]))  # before the mark
    for place in range(0, len(whole), 7):
        data = bytearray(whole)
        data[place] ^= 1 << (place % 8)
        filled.write_bytes(data)
        number = whole.count(b"\n", 0, place) + 1
        if place < marked:
            with pytest.raises(OutputError, match=rf"-journal:{number}: this line of the journal is damaged"):
                opened(filled)
            assert filled.read_bytes() == data
        else:
            journal = opened(filled)
            assert journal.done == {4: DONE}
            journal.close()


@pytest.mark.parametrize(
    "text",
    [
        *("7", "[]", "{", '"rows"', "[[]]", '["rows",0,0,4]', '["rows",[],0,4,"a","b",0]', '["disk","a"]'),
        *(
            '["done",0,{"source":"a"}]',
            '["rows",-1,0,4,"a","b",0]',
            '["disk",' + "9" * 5000 + "]",
            "[" * 3000,
        ),
    ],
)
def test_a_line_that_says_what_no_run_notes_is_damaged(filled: Path, text: str) -> None:
    """Although its hash is right: somebody made it."""
    line = xxhash.xxh3_64_hexdigest(text.encode()).encode() + b" " + text.encode() + b"\n"
    whole = filled.read_bytes()
    filled.write_bytes(whole + line)
    opened(filled).close()
    assert filled.read_bytes() == whole
    first, *rest = whole.splitlines(keepends=True)
    filled.write_bytes(b"".join([first, line, *rest]))
    with pytest.raises(OutputError, match="-journal:2: this line of the journal is damaged"):
        opened(filled)


@pytest.mark.parametrize("begin", [0, 1, 16, 17, 25])
@pytest.mark.parametrize("end", [b"", b"\0" * 9])
def test_a_first_line_that_was_torn_begins_anew(filled: Path, begin: int, end: bytes) -> None:
    filled.write_bytes(filled.read_bytes()[:begin] + end)
    journal = opened(filled)
    assert journal.empty
    journal.close()


@pytest.mark.parametrize(
    "content", [b"{}\n", b"notes of mine\n", b"GGUF\3\0\0\0", b'{"key": 1}\n{"tensor": 2}\n']
)
def test_another_file_of_that_name_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(OutputError, match="is in the way, and isn't the journal of a stopped run"):
        opened(path)
    assert path.read_bytes() == content


@pytest.mark.skipif(os.name != "posix", reason="makes links")
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_what_a_link_leads_to_is_left_alone(path: Path, link: Any) -> None:
    other = path.with_name("other")
    other.write_bytes(b"")
    link(path, other)
    with pytest.raises(OutputError):
        opened(path)
    assert other.read_bytes() == b""


class TestADiskThatFails:
    @pytest.fixture
    def journal(self, path: Path) -> Iterator[Journal]:
        journal = opened(path)
        journal.add_rows(1, 0, 1, ROWS)
        yield journal
        journal.close()

    @pytest.mark.parametrize("torn", [0, 1, 30])
    def test_half_a_record_is_taken_back_and_nothing_comes_behind_it(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch, torn: int
    ) -> None:
        before = journal.path.read_bytes()
        write, calls = os.write, 0

        def full(fd: int, data: Any) -> int:
            nonlocal calls
            calls += 1
            if calls > 1 or not torn:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(fd, data[:torn])

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(OutputError, match="is full"):
                journal.add_rows(1, 1, 2, ROWS)
        assert journal.path.read_bytes() == before
        with pytest.raises(OutputError, match="is full"):
            journal.add_rows(1, 2, 3, ROWS)
        assert journal.path.read_bytes() == before

    def test_short_writes_go_on(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        write = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
        journal.add_rows(1, 1, 2, ROWS)
        monkeypatch.undo()
        journal.close()
        again = opened(journal.path)
        assert len(again.rows[1]) == 2
        again.close()

    def test_a_sync_that_fails_is_told_from_then_on(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(fd: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            with pytest.raises(OutputError, match="Input/output error"):
                journal.sync()
        with pytest.raises(OutputError, match="Input/output error"):
            journal.add_rows(1, 1, 2, ROWS)

    def test_void_leaves_nothing_to_go_on_with(self, journal: Journal) -> None:
        journal.void(OutputError("lost"))
        assert journal.path.read_bytes() == b""
        with pytest.raises(OutputError, match="lost"):
            journal.add_rows(1, 1, 2, ROWS)


def test_only_its_own_file_is_removed(path: Path) -> None:
    journal = opened(path)
    path.unlink()
    other = opened(path)
    journal.remove()
    assert path.exists()
    other.remove()
    assert not path.exists()
