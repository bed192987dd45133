"""The space of a file is set aside where the file system can; where it can't, nothing happens."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

import pytest

from quantrecipe.errors import OutputError
from quantrecipe.output import reserved_space
from quantrecipe.output.partfile import PartFile, part_path
from quantrecipe.output.reserved_space import reserve_space


def says(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def call(fd: int, mode: int, begin: int, size: int) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(reserved_space, "_fallocate", lambda: call)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has the call")
def test_a_part_has_its_space_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with PartFile(path, 1 << 20) as file:
        blocks = part_path(path).stat().st_blocks
        if not blocks:
            pytest.skip("this file system sets nothing aside")
        assert blocks * 512 >= 1 << 20
        file.keep()
    with PartFile(path, 1 << 20, keep=True) as file:
        assert file.left
        file.write(memoryview(b"x"), 0)
        file.finish()
    assert path.stat().st_size == 1 << 20


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_a_file_system_that_can_t(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    says(monkeypatch, code)
    with PartFile(tmp_path / "a", 100) as file:
        file.finish()
    assert (tmp_path / "a").stat().st_size == 100


@pytest.mark.parametrize("left", [False, True])
def test_too_little_space_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    """What an earlier run has left stays."""
    path = tmp_path / "a"
    if left:
        with PartFile(path, 100) as file:
            file.write(memoryview(b"work"), 0)
            file.keep()
    says(monkeypatch, errno.ENOSPC)
    with pytest.raises(OutputError, match="is full while writing a"):
        PartFile(path, 100, keep=True)
    assert part_path(path).exists() == left
    if left:
        assert part_path(path).read_bytes()[:4] == b"work"


def test_without_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserved_space, "_fallocate", lambda: None)
    fd = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    reserve_space(fd, 100)
    os.close(fd)
    assert (tmp_path / "a").stat().st_size == 0
