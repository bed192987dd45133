"""Room that begins on a cache line, so that no vector of it lies across two: a third of a load-bound loop's time."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantrecipe.core.bits import place
from quantrecipe.core.jit import kernel

__all__ = ["aligned"]

LINE = 16
"""float32 in a cache line."""


@kernel
def aligned(count: Any) -> Any:
    """count float32, not yet set."""
    room = np.empty(count + LINE, np.float32)
    first = place(-(room.ctypes.data >> 2) & (LINE - 1))
    return room[first : first + count]
