"""A file appears whole under its name, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import OutputError
from quantrecipe.output import at_offset, locks, partfile
from quantrecipe.output.partfile import PartFile, part_path


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
    part_path(tmp_path / "a").write_bytes(b"left over and longer")
    with PartFile(tmp_path / "a", 3) as file:
        file.write(memoryview(b"new"), 0)
        file.finish()
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.skipif(os.name == "nt", reason="workers don't write to files there")
@pytest.mark.parametrize("keep", [False, True])
def test_who_still_writes_to_a_part_of_a_killed_run_writes_to_another_file(
    keep: bool, tmp_path: Path
) -> None:
    """A worker may outlive the command that it worked for."""
    path = part_path(tmp_path / "out.gguf")
    path.write_bytes(b"left")
    with path.open("r+b", buffering=0) as left, PartFile(tmp_path / "out.gguf", 8, keep=keep) as part:
        part.write(memoryview(b"new bytes"[:8]), 0)
        left.write(b"other")
        with pytest.raises(OutputError, match="another process is writing"):
            PartFile(tmp_path / "out.gguf", 8)
        part.finish()
    assert (tmp_path / "out.gguf").read_bytes() == b"new byte"
    assert [it.name for it in tmp_path.iterdir()] == ["out.gguf"]


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
        monkeypatch.setattr(at_offset, "_write", full)
        file.write(memoryview(b"abc"), 0)
    assert not list(tmp_path.iterdir())


def test_short_writes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = at_offset._write
    monkeypatch.setattr(at_offset, "_write", lambda fd, data, offset, lock: whole(fd, data[:2], offset, lock))
    with PartFile(tmp_path / "a", 5) as file:
        file.write(memoryview(b"abcde"), 0)
        file.finish()
    assert (tmp_path / "a").read_bytes() == b"abcde"


def test_the_disk_begins_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that so many bytes were written, not at each write."""
    asked: list[int] = []
    monkeypatch.setattr(partfile, "_EARLY", 100)
    monkeypatch.setattr(partfile, "write_early", lambda fd: asked.append(os.fstat(fd).st_size))
    with PartFile(tmp_path / "f", 1000) as file:
        for written, begun in ((60, 0), (30, 0), (10, 1), (99, 1), (350, 2), (1, 2)):
            file.write(memoryview(bytes(written)), 0)
            assert len(asked) == begun
    assert asked == [1000, 1000]


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
    ("name", "message"),
    [
        ("no/such/folder.gguf", "the folder no/such doesn't exist"),
        ("file/model.gguf", "the folder file doesn't exist"),
        ("folder", "folder is a folder"),
        ("folder/..", "is a folder"),
        (".", "is a folder"),
        ("", "is a folder"),
        ("/", "is a folder"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_places_that_can_t_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str, force: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    with pytest.raises(OutputError, match=message):
        PartFile(Path(name), 3, force=force)


@pytest.mark.skipif(os.name != "posix", reason="makes a pipe")
def test_pipes_and_devices_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(OutputError, match="is no regular file"):
            PartFile(path, 3, force=True)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("target", ["old.gguf", "missing.gguf"])
def test_a_link_is_not_replaced(tmp_path: Path, target: str, force: bool) -> None:
    (tmp_path / "old.gguf").write_bytes(b"precious")
    (tmp_path / "latest.gguf").symlink_to(target)
    with pytest.raises(OutputError, match=f"is a link to {target}; name the file itself"):
        PartFile(tmp_path / "latest.gguf", 3, force=force)
    assert (tmp_path / "old.gguf").read_bytes() == b"precious"


class TestWhatHasThePartsName:
    """It is only emptied where it is what a run of quantrecipe left."""

    def test_another_program_s_part_is_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "dl.gguf.part").write_bytes(b"half a download")
        with PartFile(tmp_path / "dl.gguf", 3) as file:
            file.finish()
        assert (tmp_path / "dl.gguf.part").read_bytes() == b"half a download"

    def test_what_a_link_leads_to_is_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "z.gguf"
        (tmp_path / "bf.gguf").write_bytes(b"precious")
        part_path(path).symlink_to(tmp_path / "bf.gguf")
        with pytest.raises(OutputError, match="is in the way"):
            PartFile(path, 3)
        assert (tmp_path / "bf.gguf").read_bytes() == b"precious"
        assert part_path(path).is_symlink()

    @pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the system can't open without following links")
    def test_so_it_is_when_the_link_appears_in_between(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(PartFile, "_clear_place", lambda self: None)
        path, other = tmp_path / "z.gguf", tmp_path / "bf.gguf"
        part_path(path).symlink_to(other)
        with pytest.raises(OutputError):
            PartFile(path, 3)
        assert not other.exists()
        other.write_bytes(b"precious")
        with pytest.raises(OutputError):
            PartFile(path, 3)
        assert other.read_bytes() == b"precious"

    def test_a_file_with_another_name_is_kept(self, tmp_path: Path) -> None:
        (tmp_path / "bf.gguf").write_bytes(b"precious")
        part_path(tmp_path / "z.gguf").hardlink_to(tmp_path / "bf.gguf")
        with pytest.raises(OutputError, match="is in the way"):
            PartFile(tmp_path / "z.gguf", 3)
        assert (tmp_path / "bf.gguf").read_bytes() == b"precious"

    def test_a_crash_between_the_two_names_is_mended(self, tmp_path: Path) -> None:
        path = tmp_path / "z.gguf"
        path.write_bytes(b"finished")
        part_path(path).hardlink_to(path)
        with PartFile(path, 3, force=True) as file:
            assert path.read_bytes() == b"finished"
            file.write(memoryview(b"new"), 0)
            file.finish()
        assert path.read_bytes() == b"new"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_folder(self, tmp_path: Path) -> None:
        part_path(tmp_path / "z.gguf").mkdir()
        with pytest.raises(OutputError, match="is in the way"):
            PartFile(tmp_path / "z.gguf", 3)


@pytest.mark.skipif(os.name != "posix", reason="Windows renames no open file")
@pytest.mark.parametrize("finish", [True, False])
def test_the_lock_is_held_until_the_part_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finish: bool
) -> None:
    """Who opened the part before must not get it once it is the finished file, or has no name."""
    path = tmp_path / "a"
    there_at_unlock: list[bool] = []
    unlock = locks.unlock

    def look_and_unlock(fd: int) -> None:
        there_at_unlock.append(part_path(path).exists())
        unlock(fd)

    monkeypatch.setattr(partfile, "unlock", look_and_unlock)
    with PartFile(path, 3) as file:
        if finish:
            file.finish()
    assert there_at_unlock == [False]


def test_a_part_that_someone_replaced_is_left_to_them(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with PartFile(path, 3):
        part_path(path).unlink()
        part_path(path).write_bytes(b"theirs")
    assert part_path(path).read_bytes() == b"theirs"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        PartFile(tmp_path / "a", 3)


def test_a_name_that_the_system_refuses(tmp_path: Path) -> None:
    for length in (300, 250):  # itself, or as a part
        with pytest.raises(OutputError, match="File name too long; name a file with a shorter name"):
            PartFile(tmp_path / ("x" * length), 3)


def test_a_part_that_also_has_a_foreign_name_is_not_the_file_s_own(tmp_path: Path) -> None:
    """The file has two names, but neither of them is the one that is to be written."""
    path = tmp_path / "z.gguf"
    path.write_bytes(b"precious")
    part_path(path).write_bytes(b"half")
    part_path(path).with_name("other").hardlink_to(part_path(path))
    with pytest.raises(OutputError, match="is in the way"):
        PartFile(path, 3, force=True)
    assert part_path(path).read_bytes() == b"half"


@pytest.fixture
def umask() -> Iterator[None]:
    """Back as it was in the end."""
    before = os.umask(0)
    os.umask(before)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(os.name != "posix", reason="there are no modes")
@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("mask", "final"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o000, 0o666)])
@pytest.mark.parametrize("left", [False, True])
def test_a_part_is_its_owner_s_alone_and_the_file_as_the_umask_says(
    tmp_path: Path, mask: int, final: int, left: bool
) -> None:
    os.umask(mask)
    path = tmp_path / "a"
    if left:
        with PartFile(path, 3) as file:
            file.keep()
    with PartFile(path, 3, keep=True) as file:
        assert file.left is left
        assert mode(part_path(path)) == 0o600
        file.finish()
    assert mode(path) == final
    assert [it.name for it in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="there are no modes")
def test_a_file_system_without_modes_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(fd: int, mode: int) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchmod", none)
    with PartFile(tmp_path / "a", 3) as file:
        file.finish()
    assert (tmp_path / "a").exists()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux does")
def test_no_file_stays_open(tmp_path: Path) -> None:
    """Neither of a part that is refused, nor of one that is finished or given up."""

    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    with PartFile(tmp_path / "a", 3):
        with pytest.raises(OutputError):
            PartFile(tmp_path / "a", 3)
        assert count() == before + 1
    assert count() == before
    with PartFile(tmp_path / "a", 3) as file:
        file.finish()
    assert count() == before
    with PartFile(tmp_path / "b", 3) as file:
        file.keep()
    assert count() == before
    assert part_path(tmp_path / "b").exists()


def test_what_an_earlier_run_left_is_read_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from memory, which may hold what the disk couldn't take."""
    with PartFile(tmp_path / "a", 3) as file:
        file.write(memoryview(b"abc"), 0)
        file.keep()
    said: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (said.append("on the disk"), fsync(fd))[1])
    monkeypatch.setattr(os, "posix_fadvise", lambda *given: said.append("forgotten"), raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    with PartFile(tmp_path / "a", 3, keep=True) as file:
        assert file.left
        assert said == ["on the disk", "forgotten"]
        room = bytearray(3)
        assert file.read(memoryview(room), 0)
        assert room == b"abc"


def test_what_the_disk_couldn_t_take_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PartFile(tmp_path / "a", 3) as file:
        file.write(memoryview(b"abc"), 0)
        file.keep()

    def fails(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        file = PartFile(tmp_path / "a", 3, keep=True)
    assert not file.left
    assert part_path(tmp_path / "a").read_bytes() == bytes(3)
    file.discard()


@pytest.mark.skipif(os.name != "posix", reason="Windows moves no open file")
@pytest.mark.parametrize("how", ["removed", "moved", "its folder moved", "another in its place"])
def test_a_part_that_is_gone_is_told_at_the_next_write(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "a"
    with PartFile(path, 3) as file:
        file.look()
        file.write(memoryview(b"abc"), 0)
        if how == "its folder moved":
            folder.rename(tmp_path / "elsewhere")
        elif how == "removed":
            part_path(path).unlink()
        else:
            part_path(path).rename(folder / "elsewhere")
        if how == "another in its place":
            part_path(path).write_bytes(b"other")
        file.look()
        with pytest.raises(OutputError, match="is gone: somebody has removed or moved it"):
            file.write(memoryview(b"abc"), 0)
        with pytest.raises(OutputError, match="is gone"):
            file.make_public()
    assert not path.exists()
    assert part_path(path).exists() == (how == "another in its place")


def test_a_server_that_is_away_for_a_moment_takes_no_part_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PartFile(tmp_path / "a", 3) as file:

        def away(self: Path) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "lstat", away)
            file.look()
        file.write(memoryview(b"abc"), 0)
        file.finish()
