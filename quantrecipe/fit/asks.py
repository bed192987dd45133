"""Which losses are asked of the estimate next, so that what the engine measures comes to a target.

    first      nothing is measured yet           goal / 1.5          goal          goal · 1.5
    onwards    one end is missing         end ──────┬──── the target, as it seems ────┬──────
    inwards    both are there          within ──────────────┬──┬─┬──┬──────────────── beyond

All are numbers, in the order of the bytes that they come to or in reverse. With one at a time, `between` is the way
from one end to the other.
"""

from __future__ import annotations

import math
from typing import Protocol

__all__ = ["End", "between", "first", "inwards", "onwards", "towards"]

FURTHEST = 4.0
"""Times by which the loss that is asked for changes at most, from one mix to the next."""
BEYOND = 0.05
"""A share by which more is asked for than seems right, so that the other end is found."""
NOT_NEARER = 0.1
"""A share of the way between two ends that one loss is away from each."""
APART = 1.5
"""Times by which the first losses that are asked for at the same time differ: estimates may be wrong by as much."""
AROUND = 0.05
"""How far beside the place where the target should be the next two are, as a share of the way between the ends. Of more
of them, each pair is twice as far as the one before."""
FARTHEST = 0.4
"""The farthest of them."""


class End(Protocol):
    """A mix: the loss that was asked for, and what was measured."""

    @property
    def asked(self) -> float: ...
    @property
    def value(self) -> float: ...


def towards(value: float, most: float) -> float:
    """By how much more the estimate is to be asked for, where this was measured in the place of `most`."""
    factor = most / max(value, most / FURTHEST)
    return max(1 / FURTHEST, min(FURTHEST, factor))


def between(within: End, beyond: End, most: float) -> float:
    """Where the target lies on the line through both ends, in logarithms; not too near to either."""
    share = max(NOT_NEARER, min(1 - NOT_NEARER, _share(within, beyond, most)))
    return _part(within, beyond, share)


def first(start: float, count: int) -> list[float]:
    """So many around one."""
    return [start * APART ** (number - (count - 1) / 2) for number in range(count)]


def onwards(end: End, most: float, count: int) -> list[float]:
    """So many from an end on, up to beyond the place where the target should be."""
    factor = towards(end.value, most) * (1 + BEYOND if end.value <= most else 1 - BEYOND)
    return [end.asked * factor ** (2 * (number + 1) / (count + 1)) for number in range(count)]


def inwards(within: End, beyond: End, most: float, count: int, *, even: bool = False) -> list[float]:
    """So many between two ends, around the place where the target should be.

    even: spread them evenly, where the ones before have come to nothing new
    """
    if even:
        return [_part(within, beyond, (number + 1) / (count + 1)) for number in range(count)]
    if count == 1:
        return [between(within, beyond, most)]
    middle = _share(within, beyond, most)
    nearest = min(AROUND, FARTHEST / 2 ** (count // 2 - 1))
    beside = [nearest * 2**number for number in range(count // 2)]
    inside = AROUND / count  # no end is asked for again
    shares = {*(middle - it for it in beside), *(middle + it for it in beside), *[middle] * (count % 2)}
    return [_part(within, beyond, it) for it in sorted({max(inside, min(1 - inside, it)) for it in shares})]


def _share(within: End, beyond: End, most: float) -> float:
    """How far it is from the one to the target, as a share of the way to the other."""
    low, high = math.log(max(within.value, 1e-12)), math.log(max(beyond.value, 1e-12))
    return (math.log(most) - low) / (high - low) if high > low else 0.5


def _part(within: End, beyond: End, share: float) -> float:
    """The loss to ask for at this share of the way."""
    a, b = math.log(max(within.asked, 1e-15)), math.log(max(beyond.asked, 1e-15))
    return math.exp(a + share * (b - a))
