"""A folder while something runs: gone in the end, and removed by the next where its process was killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from quantrecipe.errors import OutputError
from quantrecipe.output import work_folder as module
from quantrecipe.output.work_folder import work_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from quantrecipe.output.work_folder import work_folder
with work_folder(Path(sys.argv[1]), "probes") as place:
    (place / "model.gguf").write_bytes(b"x" * 1000)
    print(place, flush=True)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are killed")


def begun(folder: Path, how: str) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def ended(process: subprocess.Popen[str]) -> int:
    process.communicate()
    return process.returncode


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_nothing_stays(tmp_path: Path, error: type[BaseException] | None) -> None:
    try:
        with work_folder(tmp_path, "probes") as place:
            assert place.name.startswith(".quantrecipe-probes-")
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
            (place / "a").mkdir()
            (place / "a" / "b").touch()
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_of_its_kind(tmp_path: Path) -> None:
    process, left = begun(tmp_path, "die")
    assert ended(process) == -signal.SIGKILL
    assert (left / "model.gguf").exists()
    with work_folder(tmp_path, "trial"):
        assert left.exists()
    with work_folder(tmp_path, "probes") as place:
        assert [*tmp_path.iterdir()] == [place]


def test_those_of_processes_that_run_stay(tmp_path: Path) -> None:
    process, there = begun(tmp_path, "stay")
    with work_folder(tmp_path, "probes") as place:
        assert {*tmp_path.iterdir()} == {there, place}
        with work_folder(tmp_path, "probes") as another:  # of the same process
            assert {*tmp_path.iterdir()} == {there, place, another}
    assert (there / "model.gguf").exists()
    assert ended(process) == 0
    assert list(tmp_path.iterdir()) == []


def test_where_there_are_no_locks_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process, left = begun(tmp_path, "die")
    ended(process)
    monkeypatch.setattr(module, "lock", lambda fd: False)
    with work_folder(tmp_path, "probes") as place:
        assert {*tmp_path.iterdir()} == {left, place}
    assert [*tmp_path.iterdir()] == [left]


def test_what_isn_t_such_a_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "held").touch()
    (tmp_path / ".quantrecipe-probes-link").symlink_to(tmp_path / "mine")
    (tmp_path / ".quantrecipe-probes-file").touch()
    (tmp_path / ".quantrecipe-probes-new").mkdir()  # of a process that is about to hold it
    before = {*tmp_path.rglob("*")}
    with work_folder(tmp_path, "probes"):
        pass
    assert {*tmp_path.rglob("*")} == before


def test_who_lost_it_to_another_that_tidied_up_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, seen = module.lock, []

    def taken_first(fd: int) -> bool:
        held = Path(os.readlink(f"/proc/self/fd/{fd}")) if not seen else None  # noqa: PTH115  # not a file's link
        seen.append(held)
        if held is not None:
            held.unlink()
            held.parent.rmdir()
        return lock(fd)

    if not Path("/proc/self/fd").exists():
        pytest.skip("reads /proc")
    monkeypatch.setattr(module, "lock", taken_first)
    with work_folder(tmp_path, "probes") as place:
        assert len(seen) == 2
        assert place.is_dir()
        assert place != (seen[0] or Path()).parent


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    said = r"can't make a temporary folder in .*; name another with --work-dir"
    with pytest.raises(OutputError, match=said), work_folder(tmp_path / "none", "probes"):
        pass
