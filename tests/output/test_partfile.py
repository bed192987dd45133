"""A file appears whole under its name, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import OutputError
from quantrecipe.output.partfile import PartFile


def test_the_name_appears_when_finished(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with PartFile(path, 10) as file:
        file.write(memoryview(b"world"), 5)
        file.write(memoryview(b"hello"), 0)
        assert not path.exists()
        file.finish()
    assert path.read_bytes() == b"helloworld"
    assert [p.name for p in tmp_path.iterdir()] == ["model.gguf"]


def test_nothing_is_left_of_an_unfinished_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), PartFile(tmp_path / "model.gguf", 10) as file:
        file.write(memoryview(b"hello"), 0)
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_what_is_not_written_is_zero(tmp_path: Path) -> None:
    with PartFile(tmp_path / "a", 4) as file:
        file.finish()
    assert (tmp_path / "a").read_bytes() == bytes(4)


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists; say --force"):
        PartFile(path, 10)
    assert path.read_bytes() == b"precious"


def test_force_replaces_it_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"old")
    with PartFile(path, 3, force=True) as file:
        file.write(memoryview(b"new"), 0)
        assert path.read_bytes() == b"old"
        file.finish()
    assert path.read_bytes() == b"new"


def test_a_part_that_a_crash_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"left over and longer")
    with PartFile(tmp_path / "a", 3) as file:
        file.write(memoryview(b"new"), 0)
        file.finish()
    assert (tmp_path / "a").read_bytes() == b"new"


def test_two_writers_of_one_file_don_t_mix(tmp_path: Path) -> None:
    with PartFile(tmp_path / "a", 3) as file:
        with pytest.raises(OutputError, match="another process is writing"):
            PartFile(tmp_path / "a", 3)
        file.write(memoryview(b"abc"), 0)
        file.finish()
    assert (tmp_path / "a").read_bytes() == b"abc"


def test_a_disk_that_fills_up_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match="is full while writing a"), PartFile(tmp_path / "a", 3) as file:
        monkeypatch.setattr(PartFile, "_pwrite", full)
        file.write(memoryview(b"abc"), 0)
    assert not list(tmp_path.iterdir())


def test_short_writes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = PartFile._pwrite
    monkeypatch.setattr(PartFile, "_pwrite", lambda self, data, offset: whole(self, data[:2], offset))
    with PartFile(tmp_path / "a", 5) as file:
        file.write(memoryview(b"abcde"), 0)
        file.finish()
    assert (tmp_path / "a").read_bytes() == b"abcde"


def test_without_positional_writes_the_bytes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pwrite", raising=False)
    with PartFile(tmp_path / "a", 5) as file:
        file.write(memoryview(b"de"), 3)
        file.write(memoryview(b"abc"), 0)
        file.finish()
    assert (tmp_path / "a").read_bytes() == b"abcde"


@pytest.mark.parametrize(
    ("name", "message"), [("no/such/folder.gguf", "doesn't exist"), ("folder", "is a folder")]
)
def test_places_that_can_t_be_written(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=message):
        PartFile(tmp_path / name, 3)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        PartFile(tmp_path / "a", 3)


def test_a_name_that_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't write"):
        PartFile(tmp_path / ("x" * 300), 3)
