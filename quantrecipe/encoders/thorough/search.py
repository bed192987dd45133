"""The search for scales: from those of the format's own encoder to others that lose less, block by block.

Each candidate is tried for all blocks at once, and kept where the weights, each at its nearest value, lose less by it:

    one group in a block   the float (two, with an offset), over a range around what the encoder found, then as least
                           squares have it for the values that are nearest now
    several                each group as if it had floats of its own; then the block's floats, with the integers that
                           come nearest to that; then integers one and two away; then least squares for the block's
                           floats; and the last two once more

Floats are tried as they are stored, so that what is compared is what decodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.encoders.thorough.losses import lose, moments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import FloatArray

__all__ = ["Alone", "Problem", "Stepped", "search_alone", "search_stepped"]

_FACTORS = (*(np.float32(1 + 0.0125 * i) for i in range(-14, 15) if i), *map(np.float32, (0.4, 0.55, 0.7)))
"""Of a scale: to 17 % less or more, and far less, where an encoder takes the largest weight for the scale."""
_MOVES = (-1.2, -0.8, -0.4, 0.0, 0.4, 0.8, 1.2)
"""By how many steps of the scale the lowest and the highest value of a group move."""
_POWERS = (0.25, 0.5, 2.0)
_BLOCK_FACTORS = tuple(np.float32(1 + 0.02 * i) for i in (0, *range(-6, 0), *range(1, 7)))
"""Of the float that a block's groups have in common; every third of them for the offsets' float."""
_NEAR = tuple((it, 0) for it in (-2, -1, 1, 2))
_NEAR_BOTH = (
    *(it for it in product((-1, 0, 1), (-1, 0, 1)) if any(it)),
    (-2, 0), (2, 0), (0, -2), (0, 2), (-2, -1), (2, 1), (-1, -2), (1, 2), (-2, -2), (2, 2),
)  # fmt: skip
"""By how much the integers of a group's scale and offset change."""
_ROUNDS = 2
_FITS = 3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Problem:
    """Weights, how much each counts, and what they may become.

    x, weights: float32 (k, n); sizes: (groups, n): see `losses.py`
    values:     float32, ascending; even: they are whole numbers without gaps
    groups:     in a block
    steps, lows: the lowest and the highest integer of scales and offsets; both 0 where there are none
    powers:     the float is a power of two
    two:        there are two floats in a block
    """

    x: FloatArray
    weights: FloatArray
    sizes: FloatArray
    values: FloatArray
    even: bool
    groups: int
    steps: tuple[int, int]
    lows: tuple[int, int]
    powers: bool
    two: bool

    @property
    def signed(self) -> bool:
        """Whether a scale of the other sign can be stored, and reaches other weights."""
        return not np.array_equal(self.values, -self.values[::-1]) and (self.groups == 1 or self.steps[0] < 0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Alone:
    """Scale and offset of each group: float32 (groups, n)."""

    scales: FloatArray
    offsets: FloatArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stepped:
    """The floats of each block (blocks, n), and the integers of each group (blocks * groups, n), all as float32."""

    d: FloatArray
    m: FloatArray
    steps: FloatArray
    lows: FloatArray

    def alone(self, groups: int) -> Alone:
        """Scales and offsets of groups, rounded as decoders do it."""
        scales = np.repeat(self.d, groups, axis=0) * self.steps
        return Alone(scales=scales, offsets=-(np.repeat(self.m, groups, axis=0) * self.lows))


def search_alone(problem: Problem, found: Alone) -> Alone:
    """Scales, one group a block, with which no block loses more than with those that the format's encoder found."""
    return _Run(problem).alone(found, _power if problem.powers else _half)


def search_stepped(problem: Problem, found: Stepped) -> Stepped:
    """The same of blocks with several groups."""
    run = _Run(problem)
    state = run.common(found)
    for _ in range(_ROUNDS):
        state = run.fitted(run.near(state))
    return run.near(state)


def _half(wanted: FloatArray) -> FloatArray:
    """As a float16 has it; 0 where it doesn't reach."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        found = wanted.astype(np.float16).astype(np.float32)
    return np.where(np.isfinite(found), found, np.float32(0))


def _power(wanted: FloatArray) -> FloatArray:
    """Powers of two, for candidates that are some times one."""
    mantissa, exponent = np.frexp(wanted)
    return np.where(mantissa > 0, np.ldexp(np.float32(0.5), exponent), np.float32(0)).astype(np.float32)


def _as_it_is(wanted: FloatArray) -> FloatArray:
    return wanted


class _Run:
    """Candidates for all groups at once, and room for what they lose."""

    def __init__(self, problem: Problem) -> None:
        self._of = problem
        self._halfway = (problem.values[:-1] + problem.values[1:]) / np.float32(2)
        self._room = np.empty((4, problem.x.shape[1]), np.float32)

    def lost(self, at: Alone) -> FloatArray:
        """By each group: float32 (groups, n)."""
        of, found = self._of, np.empty_like(at.scales)
        lose(
            of.x, of.weights, np.ascontiguousarray(at.scales), np.ascontiguousarray(at.offsets), of.values,
            self._halfway, int(of.even), self._room, of.sizes, found,
        )  # fmt: skip
        return found

    def moments(self, at: Alone) -> NDArray[np.float64]:
        """Σ w, Σ w x, Σ w v, Σ w v², Σ w x v of each group, for the values that are nearest: (5, groups, n)."""
        of, sums = self._of, np.empty((5, *at.scales.shape), np.float32)
        moments(
            of.x, of.weights, np.ascontiguousarray(at.scales), np.ascontiguousarray(at.offsets), of.values,
            self._halfway, int(of.even), self._room, sums,
        )  # fmt: skip
        return sums.astype(np.float64)

    def alone(self, found: Alone, store: Callable[[FloatArray], FloatArray]) -> Alone:
        """The best scale and offset of each group by itself, among those that can be stored."""
        least = self.lost(found)

        def keep(wanted: Alone) -> None:
            nonlocal found, least
            tried = Alone(scales=store(wanted.scales), offsets=store(wanted.offsets))
            lost = self.lost(tried)
            better = lost < least
            least = np.where(better, lost, least)
            found = Alone(
                scales=np.where(better, tried.scales, found.scales),
                offsets=np.where(better, tried.offsets, found.offsets),
            )

        for wanted in self._around(found):
            keep(wanted)
        for _ in range(0 if self._of.powers else _FITS):
            keep(self._fit(found))
        return found

    def _around(self, found: Alone) -> Iterator[Alone]:
        """Candidates near what was found."""
        of, (scales, offsets) = self._of, (found.scales, found.offsets)
        if of.powers:
            for power in _POWERS:
                yield Alone(scales=scales * np.float32(power), offsets=offsets)
        elif of.two:
            span = np.float32(of.values[-1] - of.values[0])
            for low, high in product(_MOVES, _MOVES):
                moved = offsets + scales * np.float32(low)
                yield Alone(scales=scales * np.float32(1 + (high - low) / span), offsets=moved)
        else:
            for sign in (1, -1) if of.signed else (1,):
                for factor in (np.float32(1), *_FACTORS):
                    yield Alone(scales=scales * (factor * np.float32(sign)), offsets=offsets)

    def _fit(self, at: Alone) -> Alone:
        """Least squares for the values that are nearest now."""
        w, wx, wv, wvv, wxv = self.moments(at)
        with np.errstate(all="ignore"):
            if not self._of.two:
                return Alone(scales=_usable(wxv / wvv, at.scales), offsets=at.offsets)
            below = w * wvv - wv * wv
            scale, offset = (w * wxv - wx * wv) / below, (wvv * wx - wv * wxv) / below
            return Alone(scales=_usable(scale, at.scales), offsets=_usable(offset, at.offsets))

    def common(self, found: Stepped) -> Stepped:
        """The best floats of each block, with the integers that come nearest to what is best for each group alone."""
        of, state, least = self._of, found, self._of_blocks(found)
        best = self.alone(found.alone(of.groups), _as_it_is)
        for sign, factor in product((1, -1) if of.signed else (1,), _BLOCK_FACTORS):
            d = _half(found.d * (factor * np.float32(sign)))
            for of_m in _BLOCK_FACTORS[::3] if of.two else _BLOCK_FACTORS[:1]:
                m = _half(found.m * of_m)
                tried = Stepped(
                    d=d,
                    m=m,
                    steps=self._integers(best.scales, d, of.steps),
                    lows=self._integers(-best.offsets, m, of.lows),
                )
                state, least = self._keep(tried, state, least)
        return state

    def _integers(self, wanted: FloatArray, of: FloatArray, limits: tuple[int, int]) -> FloatArray:
        with np.errstate(all="ignore"):
            found = np.rint(wanted / np.repeat(of, self._of.groups, axis=0))
        return np.clip(np.where(np.isfinite(found), found, 0), *limits).astype(np.float32)

    def near(self, state: Stepped) -> Stepped:
        """Integers one and two away, each group by itself."""
        of, steps, lows = self._of, state.steps, state.lows
        least = self.lost(state.alone(of.groups))
        for by, low_by in _NEAR_BOTH if of.two else _NEAR:
            tried = Stepped(
                d=state.d, m=state.m,
                steps=np.clip(state.steps + np.float32(by), *of.steps).astype(np.float32),
                lows=np.clip(state.lows + np.float32(low_by), *of.lows).astype(np.float32),
            )  # fmt: skip
            lost = self.lost(tried.alone(of.groups))
            better = lost < least
            least = np.where(better, lost, least)
            steps, lows = np.where(better, tried.steps, steps), np.where(better, tried.lows, lows)
        return Stepped(d=state.d, m=state.m, steps=steps, lows=lows)

    def fitted(self, state: Stepped) -> Stepped:
        """The block's floats as least squares have them, where that is better: x ≈ d (s v) - m l."""
        w, wx, wv, wvv, wxv = self.moments(state.alone(self._of.groups))
        s, low = state.steps.astype(np.float64), state.lows.astype(np.float64)
        vv, xv = self._sum(s * s * wvv), self._sum(s * wxv)
        with np.errstate(all="ignore"):
            if self._of.two:
                ll, lv, lx = self._sum(low * low * w), self._sum(low * s * wv), self._sum(low * wx)
                below = vv * ll - lv * lv
                d, m = (xv * ll - lx * lv) / below, (xv * lv - lx * vv) / below
            else:
                d, m = xv / vv, state.m
        tried = Stepped(
            d=_half(_usable(d, state.d)), m=_half(_usable(m, state.m)), steps=state.steps, lows=state.lows
        )
        return self._keep(tried, state, self._of_blocks(state))[0]

    def _sum(self, of_groups: NDArray[Any]) -> NDArray[Any]:
        """Over the groups of each block, in order."""
        parts = of_groups.reshape(-1, self._of.groups, of_groups.shape[-1])
        total = parts[:, 0].copy()
        for g in range(1, self._of.groups):
            total += parts[:, g]
        return total

    def _of_blocks(self, state: Stepped) -> FloatArray:
        return self._sum(self.lost(state.alone(self._of.groups)))

    def _keep(self, tried: Stepped, state: Stepped, least: FloatArray) -> tuple[Stepped, FloatArray]:
        lost = self._of_blocks(tried)
        better = lost < least
        wide = np.repeat(better, self._of.groups, axis=0)
        return Stepped(
            d=np.where(better, tried.d, state.d),
            m=np.where(better, tried.m, state.m),
            steps=np.where(wide, tried.steps, state.steps),
            lows=np.where(wide, tried.lows, state.lows),
        ), np.where(better, lost, least)


def _usable(wanted: NDArray[Any], otherwise: FloatArray) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        found = wanted.astype(np.float32)
    return np.where(np.isfinite(found), found, otherwise)
