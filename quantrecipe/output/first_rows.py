"""First rows: what of a tensor is noted together, where its units take next to no time.

To hash a unit by itself and to write a line for it takes some 25 µs. That is nothing beside a search for scales that
takes 50 ms, and 3 % of the millisecond in which a million weights become Q8_0. But the tensor's own hash sees one unit
after the other anyway. So quick units are noted when they are collected, as many as took `NOTE_SECONDS`, with what the
hash of the tensor is by then.
"""

from __future__ import annotations

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.output.jobs import Encoding
from quantrecipe.output.journal_records import FirstRows
from quantrecipe.output.kept import first_made

__all__ = ["NOTE_SECONDS", "FirstCollected"]

NOTE_SECONDS = 0.005
"""A unit that takes so long is noted by itself; of others, as many as take so long together. A note for every 5 ms is
half a percent of the time. A process that is killed loses 5 ms of work more for it, or for each thread twice that."""


class FirstCollected:
    """An encoding's rows, as they are collected, in order.

    begin: so many rows an earlier run has left, as `digest` shows
    lost:  weights among all of these that lost a value that isn't finite
    """

    def __init__(self) -> None:
        self.begin = self.lost = 0
        self._data, self._source = xxhash.xxh3_128(), xxhash.xxh3_64()
        self._seconds = 0.0

    @property
    def digest(self) -> str:
        """XXH3-128 of their bytes, in hex."""
        return self._data.hexdigest()

    def copy(self, begin: int) -> FirstCollected:
        """What is known by now, for a run that goes on behind these rows."""
        copied = FirstCollected()
        copied.begin, copied.lost = begin, self.lost
        copied._data, copied._source = self._data.copy(), self._source.copy()
        return copied

    def add(self, data: NDArray[np.uint8], source: str, lost: int = 0) -> None:
        """The next unit's bytes, and what they were made from (`kept.made_from`)."""
        self._data.update(data.data)
        self._source.update(source.encode())
        self.lost += lost

    def made(self, rows: int) -> FirstRows:
        """What is to be noted of them; `rows`: so many these are."""
        return FirstRows(stop=rows, data=self.digest, source=self._source.hexdigest(), lost=self.lost)

    def note(self, encoding: Encoding, rows: int, seconds: float) -> None:
        """Note all of them, if those that aren't noted took long enough.

        rows: so many they are; seconds: that the last unit took, which isn't noted by itself
        """
        self._seconds += seconds
        if self._seconds >= NOTE_SECONDS:
            first_made(encoding, self.made(rows))
            self._seconds = 0.0
