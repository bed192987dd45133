"""Grids of points that no built-in format has: pairs, and more points than are all tried."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantrecipe.api import PointGrid


class Points(PointGrid):
    """Points alone: nothing is stored."""

    def __init__(self, points: np.ndarray, *, signed: bool = True, books: int = 1) -> None:
        self.points, self.group, self.even, self.signed, self.books = points, 32, False, signed, books

    def scales(self, data: Any, k: int) -> Any:
        raise NotImplementedError

    def store(self, data: Any, choices: Any, signs: Any) -> None:
        raise NotImplementedError


def _some(count: int, size: int) -> np.ndarray:
    return np.rint(np.random.default_rng(count + size).normal(0, 30, (count, size))).astype(np.float32)


GRIDS = {
    "pairs": Points(_some(32, 2)),
    "books of fours": Points(_some(2 * 12000, 4), books=2),
    "many eights": Points(_some(7000, 8)),
    "many sizes": Points(np.abs(_some(7000, 8)), signed=False),
}
