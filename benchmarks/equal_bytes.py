"""Recipes beside the presets of the same bytes.

Between two presets, "the same bytes" are a straight line: what comes of giving some of the tensors the one's types,
and the others the other's. Of all presets those count between which the line is lowest, so it is the best that they
can do at that size. The bytes are those of tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from quantrecipe.plan.plan import Plan

ROOT = Path(__file__).parents[1]
CURATED = tuple(f"quantrecipe/{path.stem}" for path in sorted((ROOT / "recipes").glob("*.yaml")))
_MIXES = """
    IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XXS IQ3_XS IQ3_S IQ3_M IQ4_XS IQ4_NL
    Q2_K_S Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K Q8_0
"""
STOCK = tuple(f"llama.cpp/{name}" for name in _MIXES.split())


@dataclass(frozen=True, kw_only=True)
class Point:
    """A mix: its size, and what it loses at every position (or, estimated, once)."""

    name: str
    nbytes: int
    loss: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.loss.mean())


def lowest_line(points: Iterable[Point]) -> list[Point]:
    """The mixes that no mixture of two others beats, by size."""
    line: list[Point] = []
    for point in sorted(points, key=lambda p: (p.nbytes, p.mean)):
        if line and point.mean >= line[-1].mean:
            continue
        while len(line) > 1 and _slope(line[-2], point) <= _slope(line[-2], line[-1]):
            line.pop()
        line.append(point)
    return line


def at_size(line: Sequence[Point], nbytes: int) -> tuple[np.ndarray, str] | None:
    """What the presets lose at this size, and which they are; None beyond the largest and the smallest."""
    for low, high in pairwise(line):
        if low.nbytes <= nbytes <= high.nbytes:
            share = (nbytes - low.nbytes) / (high.nbytes - low.nbytes)
            return (1 - share) * low.loss + share * high.loss, f"{low.name} – {high.name}"
    return None


def ratio(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """How much more or less `one` loses, as a share, and the standard error: of a ratio of means."""
    found = float(one.mean() / other.mean())
    residual = one - found * other
    error = float(residual.std(ddof=1)) / math.sqrt(len(one)) / float(other.mean()) if len(one) > 1 else 0.0
    return found - 1, error


def _slope(one: Point, other: Point) -> float:
    return (other.mean - one.mean) / max(other.nbytes - one.nbytes, 1)


def tensor_bytes(plan: Plan) -> int:
    return sum(a.nbytes for a in plan.assignments)
