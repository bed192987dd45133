"""write_early: have the system begin to put on the disk what was written to a file, without waiting for it.

Otherwise it begins when a part of the memory is full of such data, or at the end, when somebody waits for the disk.
Only Linux has a call for it (sync_file_range(2)); elsewhere nothing happens, and the end takes longer.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache

__all__ = ["write_early"]

_WRITE = 2  # SYNC_FILE_RANGE_WRITE: begin with all pages that aren't on their way yet


def write_early(fd: int) -> None:
    """Begin with all that was written to the file. What goes wrong on the way, `os.fsync` reports at the end."""
    call = _sync_file_range()
    if call is not None:
        call(fd, 0, 0, _WRITE)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError):  # another C library than GNU's or musl's
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return call
