"""What the system says where a file can't be written, as an error that names what helps."""

from __future__ import annotations

import errno
from pathlib import Path

from quantrecipe.errors import OutputError

__all__ = ["write_error"]

_FULL = {errno.ENOSPC, errno.EDQUOT}

_REMEDIES = {
    errno.EACCES: "name a file in a folder that you may write to",
    errno.EPERM: "name a file in a folder that you may write to",
    errno.EROFS: "name a file on a disk that can be written to",
    errno.ENOENT: "name a file in a folder that exists",
    errno.ENOTDIR: "name a file in a folder that exists",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "name a file with a shorter name",
    errno.ELOOP: "name a file in a folder that exists",
    errno.EMFILE: "allow more open files with `ulimit -n`, or split into fewer files",
    errno.ENFILE: "close other programs, or split into fewer files",
    errno.EFBIG: "write to another file system, or in smaller files with --split-max-size; "
    "`ulimit -f` may be the limit, too",
    errno.EIO: "look at the disk and its connection, or write to another",
}


def write_error(error: OSError, path: Path) -> OutputError:
    """The error for the user who wanted to write `path`."""
    if error.errno in _FULL:
        return OutputError(
            f"the disk of {path.parent.resolve()} is full while writing {path.name}",
            "free some space, or name a file on another disk; nothing that existed was changed",
        )
    remedy = _REMEDIES.get(error.errno or 0, "name another file")
    return OutputError(f"can't write {path}: {error.strerror or error}", remedy)
