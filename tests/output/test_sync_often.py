"""The part is on the disk before its journal says so; what the disk can't do ends the run."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import OutputError
from quantrecipe.output.journal import Journal, journal_path
from quantrecipe.output.journal_records import MadeRows
from quantrecipe.output.partfile import PartFile
from quantrecipe.output.run_key import difference
from quantrecipe.output.sync_often import SYNC_SECONDS, SyncOften

MADE = MadeRows(digest="0" * 16, source="0" * 16)


def test_parts_then_the_journal_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.gguf"
    done: list[str] = []
    enough = threading.Event()

    def note(what: str, sync: Any) -> Any:
        def noting(self: Any) -> None:
            sync(self)
            done.append(what)
            if len(done) == 6:
                enough.set()

        return noting

    with PartFile(path, 100) as part:
        journal = Journal(journal_path(path), {}, difference)
        monkeypatch.setattr(PartFile, "sync", note("part", PartFile.sync))
        monkeypatch.setattr(Journal, "sync", note("journal", Journal.sync))
        with SyncOften([([part], journal)], 0.001):
            assert enough.wait(30)
        count = len(done)
        assert done[:6] == ["part", "journal"] * 3
        assert len(done) == count  # it has ended
        assert b'["disk",' in journal.path.read_bytes()
        journal.remove()
    assert SYNC_SECONDS == 5  # docs/cli.md and decision 0019 say so


def test_what_the_disk_has_lost_voids_the_journal_and_stops_the_writers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.gguf"
    with PartFile(path, 100) as part:
        journal = Journal(journal_path(path), {}, difference)
        journal.add_rows(0, 0, 1, MADE)

        def failing(fd: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "fsync", failing)
        voided = threading.Event()
        void = Journal.void

        def voiding(self: Journal, error: OutputError) -> None:
            void(self, error)
            voided.set()

        monkeypatch.setattr(Journal, "void", voiding)
        with SyncOften([([part], journal)], 0.001):
            assert voided.wait(30)
        monkeypatch.undo()
        for _ in range(2):  # a second fsync would succeed, and say nothing of what the first has lost
            with pytest.raises(OutputError, match="Input/output error"):
                part.sync()
        with pytest.raises(OutputError, match="Input/output error"):
            part.write(memoryview(b"x"), 0)
        with pytest.raises(OutputError, match="Input/output error"):
            journal.add_rows(0, 1, 2, MADE)
        assert journal.path.read_bytes() == b""
        journal.close()


@pytest.mark.skipif(os.name != "posix", reason="Windows removes no open file")
def test_a_part_that_somebody_has_removed_stops_the_writers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.gguf"
    looked = threading.Event()
    look = PartFile.look

    def looking(self: PartFile) -> None:
        look(self)
        if self.gone is not None:
            looked.set()

    monkeypatch.setattr(PartFile, "look", looking)
    with PartFile(path, 100) as part:
        journal = Journal(journal_path(path), {}, difference)
        with SyncOften([([part], journal)], 0.001):
            part.part.unlink()
            assert looked.wait(30)
        with pytest.raises(OutputError, match="is gone"):
            part.write(memoryview(b"x"), 0)
        journal.remove()
