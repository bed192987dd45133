"""SyncOften: a thread that has the system put on the disk what was written, and then notes it in the journal.

So a power cut takes the work of some seconds. Whoever quantizes doesn't wait for it, but while a part's disk is slower
than the work.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from quantrecipe.errors import OutputError
from quantrecipe.output.journal import Journal
from quantrecipe.output.partfile import PartFile

__all__ = ["SYNC_SECONDS", "SyncOften"]

SYNC_SECONDS = 5.0
"""As often as ext4 writes its own journal: more often is work for the disk, less often is work lost in a power cut."""


class SyncOften:
    """Does it while it is used as a context manager, for outputs: their parts, and their journal.

    What the disk can't do, the part or the journal says at the next write (`PartFile.failed`).
    """

    def __init__(
        self, outputs: Sequence[tuple[Sequence[PartFile], Journal]], seconds: float | None = None
    ) -> None:
        """seconds: between two times; None for SYNC_SECONDS."""
        self._outputs = outputs
        self._seconds = SYNC_SECONDS if seconds is None else seconds
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the thread, if it runs."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._seconds):
            for parts, journal in self._outputs:
                try:
                    for part in parts:
                        part.look()
                        part.sync()
                    journal.sync()
                except OutputError as error:  # it is kept, and raised by whoever writes next
                    if any(part.failed is not None for part in parts):
                        journal.void(error)
