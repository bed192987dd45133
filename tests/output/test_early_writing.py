"""The system is asked to begin with the disk; where it can't be, or won't, nothing happens."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from quantrecipe.output.early_writing import _sync_file_range, write_early


def test_asking_the_disk_to_begin_does_no_harm(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.write(b"data")
        file.flush()
        write_early(file.fileno())
        write_early(-1)  # what goes wrong is told by fsync
    assert (tmp_path / "f").read_bytes() == b"data"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux has the call")
def test_linux_takes_it(tmp_path: Path) -> None:
    call = _sync_file_range()
    assert call is not None
    with (tmp_path / "f").open("wb", buffering=0) as file:
        file.write(b"data")
        assert call(file.fileno(), 0, 0, 2) == 0


def test_other_systems_have_no_such_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert _sync_file_range.__wrapped__() is None
