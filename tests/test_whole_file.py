from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from quantrecipe.whole_file import mode_of_new, remove_unfinished, whole_file


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_file_is_there_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    with whole_file(path) as file:
        file.write(b"ne")
        file.flush()
        assert path.read_bytes() == b"old"
        file.write(b"w")
    assert path.read_bytes() == b"new"
    assert [it.name for it in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_a_failure(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    with pytest.raises(error), whole_file(path) as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old"
    assert [it.name for it in tmp_path.iterdir()] == ["a.json"]


def test_nothing_is_left_where_the_name_is_a_folder_s(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(OSError, match="a"), whole_file(tmp_path / "a") as file:
        file.write(b"new")
    assert [it.name for it in tmp_path.iterdir()] == ["a"]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "a"):
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_may_read(tmp_path: Path, umask: int, expected: int) -> None:
    before = os.umask(umask)
    try:
        with whole_file(tmp_path / "a"):
            pass
        with whole_file(tmp_path / "private", mode=0o600):
            pass
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a") == expected
    assert mode_of(tmp_path / "private") == 0o600


def test_the_umask_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("it is the whole process's"))
    with whole_file(tmp_path / "a"):
        pass


def test_several_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    contents = [bytes([number]) * 10_000 for number in range(8)]

    def write(content: bytes) -> None:
        with whole_file(path, durable=False) as file:
            for start in range(0, len(content), 1000):
                file.write(content[start : start + 1000])

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert [it.name for it in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("named", [False, True], ids=["unnamed", "a file system without unnamed files"])
def test_it_is_its_owner_s_alone_until_it_has_its_name(
    tmp_path: Path, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named:
        monkeypatch.setattr(os, "O_TMPFILE", 0, raising=False)
    before = os.umask(0o002)
    try:
        with whole_file(tmp_path / "a") as file:
            file.write(b"secret")
            (part,) = tmp_path.iterdir()
            assert mode_of(part) == 0o600
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a") == 0o664
    assert [it.name for it in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_it_never_was_another_s_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for the moment between two calls: who opens it then can read all that is written later."""
    opened, modes = os.open, {}

    def noted(path: Path, flags: int, mode: int = 0o777) -> int:
        fd = opened(path, flags, mode)
        modes[Path(path).name] = stat.S_IMODE(os.fstat(fd).st_mode)
        return fd

    monkeypatch.setattr(os, "open", noted)
    with whole_file(tmp_path / "a"):
        pass
    assert [mode for name, mode in modes.items() if name.endswith(".part")] == [0o600]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_a_file_system_without_modes_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(fd: int, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", none)
    with whole_file(tmp_path / "a") as file:
        file.write(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_the_mode_of_new_files_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o027)
    try:
        assert mode_of_new(tmp_path) == 0o640
        monkeypatch.setattr(os, "O_TMPFILE", 0, raising=False)
        assert mode_of_new(tmp_path) == 0o640
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows syncs no folders")
@pytest.mark.parametrize("durable", [False, True])
def test_the_name_is_on_the_disk_too(tmp_path: Path, durable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, synced = os.fsync, []

    def noted(fd: int) -> None:
        synced.append(("folder", (tmp_path / "a").exists()) if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    with whole_file(tmp_path / "a", durable=durable):
        pass
    assert synced == (["file", ("folder", True)] if durable else [])


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    names = ["a[1]", "a[1].part", "a[1].0123abcx.part", "a1.0123abcd.part", "a[1].txt.0123abcd.part"]
    for name in [*names, "a[1].0123abcd.part"]:
        (tmp_path / name).touch()
    remove_unfinished(tmp_path / "a[1]")
    assert {it.name for it in tmp_path.iterdir()} == {*names}
