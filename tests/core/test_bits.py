"""Room for kernels begins on a cache line."""

from __future__ import annotations

import numpy as np

from quantrecipe.core.bits import aligned


def test_room_begins_on_a_cache_line() -> None:
    rooms = [aligned(count) for count in (1, 16, 700, 1000, 4099)]
    assert [room.size for room in rooms] == [1, 16, 700, 1000, 4099]
    assert all(room.dtype == np.float32 and room.ctypes.data % 64 == 0 for room in rooms)
