"""whole_file: a small file that appears under its name when it is complete, or not at all.

What takes hours to write has part files instead, which can be resumed: see `output.partfile`.

Until it has its name, it is for its owner alone. `mode_of_new` tells which mode it gets then.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["mode_of_new", "remove_unfinished", "sync_folder", "whole_file"]

_PRIVATE = 0o600
_SUFFIX = ".part"
_NO_FOLDERS = {errno.EINVAL, errno.ENOTSUP, errno.EROFS}  # what some network file systems say to that


@contextmanager
def whole_file(path: Path, *, mode: int = 0o666, durable: bool = True) -> Iterator[BinaryIO]:
    """A stream whose content replaces the file `path` when the block ends without an exception. OSError passes.

    mode:    of the new file; the kernel takes away what the process's umask forbids, as for any new file
    durable: wait until the content is on the disk before the file gets its name, so that after a power cut no
             empty file has it; and then until the name is
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{_SUFFIX}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    new = os.open(temporary, flags, mode & _PRIVATE)
    try:
        with os.fdopen(new, "wb") as file:
            yield file
            file.flush()
            if mode & ~_PRIVATE and hasattr(os, "fchmod"):
                public = mode & mode_of_new(path.parent)
                with suppress(OSError):  # a file system that has no modes
                    os.fchmod(new, public)
            if durable:
                os.fsync(new)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def remove_unfinished(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left. Nobody else may be writing it."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 8}{_SUFFIX}"):
        with suppress(OSError):
            left.unlink()


def mode_of_new(folder: Path) -> int:
    """The mode that a new file gets in a folder. Only the kernel knows it: umask(2) can be read by setting it only."""
    name = folder / f".quantrecipe-{secrets.token_hex(8)}"
    unnamed = getattr(os, "O_TMPFILE", 0)  # Linux: it can't be left behind
    if unnamed:
        with suppress(OSError):  # not every file system has such files
            fd = os.open(folder, os.O_WRONLY | unnamed, 0o666)
            return _mode_of(fd)
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return _mode_of(fd)
    finally:
        name.unlink()


def sync_folder(folder: Path) -> None:
    """Make its names durable, where the system lets folders be synced. OSError passes."""
    if os.name != "posix":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDERS:
            raise
    finally:
        os.close(fd)


def _mode_of(fd: int) -> int:
    try:
        return stat.S_IMODE(os.fstat(fd).st_mode)
    finally:
        os.close(fd)
