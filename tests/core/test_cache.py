"""The cache folder is the user's own, and trouble with it is never an error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from quantrecipe.core.cache import cache_folder, kernel_folder, read_cached, write_cached

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("QUANTRECIPE_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_the_variable_decides(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean.setenv("QUANTRECIPE_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path


@posix_only
def test_each_platform_has_its_place(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean.setattr(Path, "home", lambda: tmp_path)
    clean.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / ".cache" / "quantrecipe"
    clean.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "quantrecipe"
    clean.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "quantrecipe"
    clean.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "quantrecipe"
    clean.setattr(sys, "platform", "win32")
    assert cache_folder() == tmp_path / "AppData" / "Local" / "quantrecipe" / "Cache"
    clean.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "quantrecipe" / "Cache"


@posix_only
def test_the_folder_is_private(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean.setenv("QUANTRECIPE_CACHE_DIR", str(tmp_path))
    folder = kernel_folder("1.0")
    assert folder is not None
    assert folder.stat().st_mode & 0o777 == 0o700
    for mode in (0o777, 0o770, 0o720, 0o702):
        folder.chmod(mode)
        assert kernel_folder("1.0") is None, "somebody else could have put code there"
    for mode in (0o700, 0o755, 0o750):
        folder.chmod(mode)
        assert kernel_folder("1.0") == folder


@posix_only
def test_the_folder_of_another_user_is_not_taken(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean.setenv("QUANTRECIPE_CACHE_DIR", str(tmp_path))
    assert kernel_folder("1.0") is not None
    owner = os.getuid()
    clean.setattr(os, "getuid", lambda: owner + 1)
    assert kernel_folder("1.0") is None


def test_a_folder_that_cannot_be_made_is_none(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    clean.setenv("QUANTRECIPE_CACHE_DIR", str(tmp_path / "file"))
    assert kernel_folder("1.0") is None


def test_files_appear_whole_and_failures_are_silent(tmp_path: Path) -> None:
    path = tmp_path / "kernel.bin"
    assert read_cached(path) is None
    write_cached(path, b"code")
    assert read_cached(path) == b"code"
    write_cached(tmp_path / "missing" / "kernel.bin", b"code")
    assert [entry.name for entry in tmp_path.iterdir()] == ["kernel.bin"]
