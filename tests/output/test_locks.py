"""Two that open the same file don't both get it, and a file system without locks is no obstacle."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from quantrecipe.errors import OutputError
from quantrecipe.output.locks import held, lock, unlock


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


def test_the_second_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "a"), opened(tmp_path / "a")
    try:
        lock(first)
        with pytest.raises(OSError):  # its number depends on the system
            lock(second)
        unlock(first)
        os.close(first)
        first = -1
        lock(second)
    finally:
        for fd in (first, second):
            if fd >= 0:
                os.close(fd)


@pytest.mark.skipif(os.name != "posix", reason="flock")
@pytest.mark.parametrize(
    ("number", "raised"),
    [
        (errno.ENOTSUP, False),
        (errno.ENOLCK, False),
        (errno.ENOSYS, False),
        (errno.EWOULDBLOCK, True),
        (errno.EIO, True),
    ],
)
def test_file_systems_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, raised: bool
) -> None:
    import fcntl

    def refuses(fd: int, how: int) -> None:
        assert how == fcntl.LOCK_EX | fcntl.LOCK_NB
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuses)
    fd = opened(tmp_path / "a")
    try:
        if raised:
            with pytest.raises(OSError) as error:  # the number is looked at
                lock(fd)
            assert error.value.errno == number
        else:
            lock(fd)
    finally:
        os.close(fd)


class TestHeld:
    BUSY = OutputError("another run")

    def test_one_at_a_time(self, tmp_path: Path) -> None:
        with held(tmp_path / "a", self.BUSY):
            with pytest.raises(OutputError, match="another run"), held(tmp_path / "a", self.BUSY):
                pass
            assert (tmp_path / "a").exists(), "the second took the first's away"
        assert not (tmp_path / "a").exists()
        with held(tmp_path / "a", self.BUSY):
            pass

    def test_what_a_killed_process_left_is_taken_over(self, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        with held(tmp_path / "a", self.BUSY):
            pass
        assert not (tmp_path / "a").exists()

    @pytest.mark.skipif(os.name != "posix", reason="Windows removes no open file")
    def test_a_holder_that_ends_while_the_second_begins(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second has opened what the first removes: a third would make, and lock, another file of the name."""
        monkeypatch.setattr("quantrecipe.output.locks.lock", lambda fd: (tmp_path / "a").unlink())
        with pytest.raises(OutputError, match="another run"), held(tmp_path / "a", self.BUSY):
            pass

    def test_where_none_can_be_made(self, tmp_path: Path) -> None:
        with (
            pytest.raises(OutputError, match="name a file with a shorter name"),
            held(tmp_path / ("a" * 300), self.BUSY),
        ):
            pass
