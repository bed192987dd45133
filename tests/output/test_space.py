"""Room on the disk is checked before any work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from quantrecipe.errors import OutputError
from quantrecipe.output.partfile import part_path
from quantrecipe.output.space import require_space


def test_what_fits_is_let_through(tmp_path: Path) -> None:
    require_space([(tmp_path / "a", 1000), (tmp_path / "no/such/folder", 10**18)])


def test_a_disk_that_is_too_small_is_named(tmp_path: Path) -> None:
    total = shutil.disk_usage(tmp_path).total
    with pytest.raises(OutputError, match=r"a needs .* GiB, and .* has .* GiB free"):
        require_space([(tmp_path / "a", total * 2)])


def test_files_on_one_disk_add_up(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(OutputError, match="the 3 files need"):
        require_space((tmp_path / name, free // 2) for name in "abc")


def test_what_a_stopped_run_left_counts_as_free(tmp_path: Path) -> None:
    left = 5_000_000
    part_path(tmp_path / "a").write_bytes(bytes(left))
    require_space([(tmp_path / "a", shutil.disk_usage(tmp_path).free + left // 2)])


def test_what_a_link_leads_to_does_not(tmp_path: Path) -> None:
    left = 50_000_000
    (tmp_path / "other").write_bytes(bytes(left))
    part_path(tmp_path / "a").symlink_to(tmp_path / "other")
    with pytest.raises(OutputError, match="a needs"):
        require_space([(tmp_path / "a", shutil.disk_usage(tmp_path).free + left // 2)])


class Usage:
    def __init__(self, free: int) -> None:
        self.free = free


@pytest.mark.parametrize(("left", "needed"), [(0, 5000), (4096 * 3, 20000)])
def test_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int, needed: int) -> None:
    """What a stopped run left is on the disk already, in whole blocks."""
    path = tmp_path / "a"
    if left:
        part_path(path).write_bytes(bytes(left))
        left = part_path(path).stat().st_blocks * 512
    (tmp_path / "linked").write_bytes(b"x" * 4096)
    part_path(tmp_path / "b").hardlink_to(tmp_path / "linked")
    files = [(path, needed), (tmp_path / "b", 1000)]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(needed + 1000 - left))
    require_space(files)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(needed + 999 - left))
    with pytest.raises(OutputError, match="the 2 files need"):
        require_space(files)
