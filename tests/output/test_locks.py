"""Two that open the same file don't both get it, and a file system without locks is no obstacle."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from quantrecipe.output.locks import lock, unlock


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
