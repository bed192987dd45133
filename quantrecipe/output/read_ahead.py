"""ReadAhead: a model's files on their way into memory, while kernels are compiled and nobody else reads.

What is read goes to the system's page cache, and nowhere else: the pass that follows finds it there. So the first run
on a machine doesn't wait for its compiler and then for its disk. A file that can't be read is none of its business.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["ReadAhead"]

_PIECE = 4 << 20  # bytes: after each it is seen whether reading is to end
_SHARE = 4  # of the memory that is available, which part may be filled


class ReadAhead:
    """Reads files in a thread while it is used as a context manager, until it is left or a part of memory is full.

    read: bytes by now
    """

    def __init__(self, files: Sequence[Path], most: int | None = None) -> None:
        """most: bytes; None for a quarter of the memory that is available."""
        self.read = 0
        self._files, self._most = files, most
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        import psutil  # only asked for where something is compiled

        most = psutil.virtual_memory().available // _SHARE if self._most is None else self._most
        buffer = bytearray(_PIECE)
        for path in self._files:
            with suppress(OSError), path.open("rb", buffering=0) as file:
                while self.read < most and not self._end.is_set():
                    if not (count := file.readinto(buffer)):
                        break
                    self.read += count
