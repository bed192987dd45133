"""write_all, read_all: bytes at an offset of a file that several threads share.

Where a system has no positional calls (Windows), a lock keeps others from moving the file's position meanwhile: one
for each file.
"""

from __future__ import annotations

import os
from threading import Lock

__all__ = ["read_all", "write_all"]


def write_all(fd: int, data: memoryview, offset: int, seeking: Lock) -> None:
    """Write all of `data`, in as many calls as it takes. OSError passes."""
    data = data.cast("B")
    while data:
        count = _write(fd, data, offset, seeking)
        data, offset = data[count:], offset + count


def read_all(fd: int, out: memoryview, offset: int, seeking: Lock) -> bool:
    """Fill `out`; False where the file ends before. OSError passes."""
    out = out.cast("B")
    while out:
        count = _read(fd, out, offset, seeking)
        if not count:
            return False
        out, offset = out[count:], offset + count
    return True


def _write(fd: int, data: memoryview, offset: int, seeking: Lock) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, data, offset)
    with seeking:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)


def _read(fd: int, out: memoryview, offset: int, seeking: Lock) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [out], offset)
    with seeking:
        os.lseek(fd, offset, os.SEEK_SET)
        found = os.read(fd, len(out))
    out[: len(found)] = found
    return len(found)
