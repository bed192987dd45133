"""What the system says becomes an error that names the file and what helps."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from quantrecipe.output.write_errors import write_error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(number: int, tmp_path: Path) -> None:
    (problem,) = write_error(OSError(number, os.strerror(number)), tmp_path / "m.gguf").problems
    assert problem.what == f"the disk of {tmp_path} is full while writing m.gguf"
    assert problem.remedy.startswith("free some space")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "name a file in a folder that you may write to"),
        (errno.EPERM, "name a file in a folder that you may write to"),
        (errno.EROFS, "name a file on a disk that can be written to"),
        (errno.ENOENT, "name a file in a folder that exists"),
        (errno.ENOTDIR, "name a file in a folder that exists"),
        (errno.ELOOP, "name a file in a folder that exists"),
        (errno.EISDIR, "name a file"),
        (errno.ENAMETOOLONG, "name a file with a shorter name"),
        (errno.EMFILE, "allow more open files with `ulimit -n`, or split into fewer files"),
        (errno.ENFILE, "close other programs, or split into fewer files"),
        (errno.EIO, "look at the disk and its connection, or write to another"),
        (errno.EBUSY, "name another file"),
    ],
)
def test_what_helps(number: int, remedy: str) -> None:
    (problem,) = write_error(OSError(number, os.strerror(number)), Path("m.gguf")).problems
    assert problem.what == f"can't write m.gguf: {os.strerror(number)}"
    assert problem.remedy == remedy


def test_a_file_that_is_too_large() -> None:
    (problem,) = write_error(OSError(errno.EFBIG, "File too large"), Path("m.gguf")).problems
    assert "--split-max-size" in problem.remedy


def test_an_error_without_a_number_is_told_all_the_same() -> None:
    (problem,) = write_error(OSError("odd"), Path("m.gguf")).problems
    assert (problem.what, problem.remedy) == ("can't write m.gguf: odd", "name another file")
