"""The small integers that scale the blocks of a row, times one scale of the row.

Of several scales of the row, the one whose factors fit best, (∑ w x q)² / ∑ w q², stays; d is its least squares fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quantrecipe.core import kernel
from quantrecipe.core.lanes import first_largest, nearest_int
from quantrecipe.core.scalars import F32, I32, ZERO, Float, Floats, Int

from quantrecipe_ik.core.value_tables import FOUR_BITS, index_near

__all__ = ["Levels", "even_levels", "sixty_four_levels", "uneven_levels"]

STEPS = 9


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Four kernels.

    near:   (value) → (level, factor): the level (int32) nearest to a float32, and what it stands for (float32)
    factor: (level) → factor
    next:   (level, value) → level: the next one on that side of it where the value is
    fit:    (scales, sums, first, blocks) → d: the row's scale, for blocks with these scales (not all of them 0). sums:
            float32 (2 * blocks of all rows,), ∑ w x q and ∑ w q² of each block with a factor of one
    """

    near: Callable[..., Any]
    factor: Callable[..., Any]
    next: Callable[..., Any]
    fit: Callable[..., Any]


def _fit(level: Callable[..., Any], top: float, step: float) -> Callable[..., Any]:
    """The kernel fit: the largest scale becomes `top`, or up to nine steps more or less."""
    first_top, by = F32(top), F32(step)

    @kernel
    def fit(scales: Floats, sums: Floats, first: Int, blocks: Int) -> Float:
        peak = first_largest(scales, first, blocks)
        d, best = peak / first_top, ZERO
        for step in range(-STEPS, STEPS + 1):
            iscale = (F32(step) * by + first_top) / peak
            sxl, sl2 = ZERO, ZERO
            for b in range(first, first + blocks):
                _, factor = level(iscale * scales[b])
                sxl += factor * sums[2 * b]
                sl2 += factor * factor * sums[2 * b + 1]
            if sl2 > ZERO and sxl * sxl > best * sl2:
                d = sxl / sl2
                best = d * sxl
        return d

    return fit


def _next(factor: Callable[..., Any], lowest: int, highest: int) -> Callable[..., Any]:
    low, high, up, down = I32(lowest), I32(highest), I32(1), I32(-1)

    @kernel
    def step(level: Int, value: Float) -> Int:
        return min(max(I32(level + (up if value > factor(level) else down)), low), high)

    return step


def uneven_levels() -> Levels:
    """Sixteen of both signs: the plain table of IQ4_K."""
    near, values = index_near(FOUR_BITS, FOUR_BITS.plain), FOUR_BITS.values[:16].copy()

    @kernel
    def factor(level: Int) -> Float:
        return values[level]

    return Levels(
        near=near, factor=factor, next=_next(factor, 0, 15), fit=_fit(near, FOUR_BITS.plain[0], 1.0)
    )


def even_levels() -> Levels:
    """Sixteen from 0 to 15."""

    @kernel
    def near(value: Float) -> tuple[Int, Float]:
        level = min(max(nearest_int(value), I32(0)), I32(15))
        return level, F32(level)

    @kernel
    def factor(level: Int) -> Float:
        return F32(level)

    return Levels(near=near, factor=factor, next=_next(factor, 0, 15), fit=_fit(near, 15, 0.2))


def sixty_four_levels() -> Levels:
    """From -64 to 63; the largest scale is -64, and no other is tried."""

    @kernel
    def near(value: Float) -> tuple[Int, Float]:
        level = min(max(nearest_int(value), I32(-64)), I32(63))
        return level, F32(level)

    @kernel
    def factor(level: Int) -> Float:
        return F32(level)

    @kernel
    def fit(scales: Floats, sums: Floats, first: Int, blocks: Int) -> Float:
        return -first_largest(scales, first, blocks) / F32(64)

    return Levels(near=near, factor=factor, next=_next(factor, -64, 63), fit=fit)
