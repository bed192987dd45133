"""How fast a format is beside another one, on the same rows and in the same run, so that the machine doesn't matter."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from quantrecipe.api import QuantFormat
from quantrecipe.testing.sample import importance_for

__all__ = ["Speed", "compare"]

_COLUMNS = 4096
_ROUNDS = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """One row of the comparison; speeds in million weights per second and thread, medians.

    ratio: how many times faster than the other format, the median over pairs that were run one after the other
    """

    what: str
    rows: int
    speed: float
    other_speed: float
    ratio: float

    def __str__(self) -> str:
        return f"{self.what:22} {self.rows:6} rows {self.speed:9.1f} {self.other_speed:9.1f} M/s {self.ratio:8.2f} x"


def compare(fmt: QuantFormat, beside: QuantFormat, *, rows: tuple[int, ...] = (16, 1000)) -> Iterator[Speed]:
    """encode and decode of Gaussian rows, one thread; the first calls, which compile, aren't counted."""
    for n in (wanted + -wanted % fmt.spec.rows_per_group for wanted in rows):
        x = np.random.default_rng(0).standard_normal((n, _width(fmt, beside)), np.float32) * np.float32(0.02)
        for with_importance in (False, True):
            one, other = (_encoder(it, x, with_importance=with_importance) for it in (fmt, beside))
            if one is not None and other is not None:
                yield _compare("encode, importance" if with_importance else "encode", x, one, other)
        yield _compare("decode", x, _decoder(fmt, x), _decoder(beside, x))


def _width(fmt: QuantFormat, beside: QuantFormat) -> int:
    """Return a number of columns near 4096 that both formats accept."""
    step = int(np.lcm(fmt.spec.block, beside.spec.block))
    return max(1, round(_COLUMNS / step)) * step


def _encoder(fmt: QuantFormat, x: np.ndarray, *, with_importance: bool) -> Callable[[], object] | None:
    importance = importance_for(fmt, x.shape[1], 1) if with_importance else None
    if (with_importance and importance is None) or (
        not with_importance and fmt.spec.importance == "required"
    ):
        return None
    out = np.empty((len(x), fmt.spec.row_bytes(x.shape[1])), np.uint8)
    return lambda: fmt.encode(x, importance, out=out)


def _decoder(fmt: QuantFormat, x: np.ndarray) -> Callable[[], object]:
    data = fmt.encode(x, importance_for(fmt, x.shape[1], 1))
    out = np.empty_like(x)
    return lambda: fmt.decode(data, x.shape[1], out=out)


def _compare(what: str, x: np.ndarray, one: Callable[[], object], other: Callable[[], object]) -> Speed:
    one(), other()
    pairs = [(_seconds(one), _seconds(other)) for _ in range(_ROUNDS)]
    speeds = [x.size / 1e6 / statistics.median(column) for column in zip(*pairs, strict=True)]
    ratio = statistics.median(b / a for a, b in pairs)
    return Speed(what=what, rows=len(x), speed=speeds[0], other_speed=speeds[1], ratio=ratio)


def _seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
