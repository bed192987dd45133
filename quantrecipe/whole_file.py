"""whole_file: a small file that appears under its name when it is complete, or not at all.

What takes hours to write has part files instead, which can be resumed: see `output.partfile`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["whole_file"]


@contextmanager
def whole_file(path: Path, *, mode: int = 0o666, durable: bool = True) -> Iterator[BinaryIO]:
    """A stream whose content replaces the file `path` when the block ends without an exception. OSError passes.

    mode:    of the new file; the kernel takes away what the process's umask forbids, as for any new file
    durable: wait until the content is on the disk before the file gets its name, so that after a power cut no
             empty file has it
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    # Not tempfile: its files are for their owner alone, and which mode others may have only the kernel can tell
    # without setting the umask of the whole process.
    new = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        with os.fdopen(new, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(new)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
