from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from quantrecipe.whole_file import whole_file


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
