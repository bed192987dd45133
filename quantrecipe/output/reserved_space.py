"""reserve_space: have the disk set the space of a file aside, so that nobody else takes it while the file is written.

Else a run of a night ends at 99 %, because something else has filled the disk. Only Linux has a call that does nothing
where a file system can't do it (fallocate(2)); posix_fallocate would write zeros there, hundreds of gigabytes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache

__all__ = ["reserve_space"]

_FULL = {errno.ENOSPC, errno.EDQUOT}


def reserve_space(fd: int, nbytes: int) -> None:
    """Set the space aside of an open file that will have so many bytes. OSError where there is too little.

    Whatever else keeps a file system from it, writing will tell.
    """
    call = _fallocate()
    if call is not None and nbytes and call(fd, 0, 0, nbytes) and ctypes.get_errno() in _FULL:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    if not sys.platform.startswith("linux") or sys.maxsize < 2**63 - 1:
        return None
    try:
        call = ctypes.CDLL(None, use_errno=True).fallocate
    except (AttributeError, OSError):  # another C library than GNU's or musl's
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return call
