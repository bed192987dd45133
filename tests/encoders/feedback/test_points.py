"""Points: the nearest one is found, each change of descent lowers the loss, and it ends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from support.gram_statistics import whole
from support.point_grids import GRIDS

from quantrecipe import load_registry
from quantrecipe.api import PointGrid
from quantrecipe.encoders.feedback.cells import cells_of
from quantrecipe.encoders.feedback.factor import factorize
from quantrecipe.encoders.feedback.points import descend_points, round_points

FORMATS = load_registry(plugins=False).formats
K, N, GROUP = 320, 32, 32
RNG = np.random.default_rng(3)
INPUTS = RNG.standard_normal((2 * K, K)) @ (np.eye(K) + 0.1 * RNG.standard_normal((K, K)))
GRAM = (INPUTS.T @ INPUTS / (2 * K)).astype(np.float32)
FACTOR = factorize(GRAM, 0.01)
"""Of columns in their own order."""


def grid_of(name: str) -> PointGrid:
    grid = GRIDS[name] if name in GRIDS else FORMATS[name].grid
    assert isinstance(grid, PointGrid)
    return grid


def unit_of(grid: PointGrid) -> int:
    return grid.points.shape[1] if grid.signed else 8


class Groups:
    """Random scales, shifts and books."""

    def __init__(self, grid: PointGrid, seed: int) -> None:
        rng, top = np.random.default_rng(seed), float(np.abs(grid.points).max())
        shape = (K // GROUP, N)
        self.scales = rng.uniform(2 / top, 3 / top, shape).astype(np.float32)
        small = np.array([-top / 8, top / 8] if grid.signed else [0.0], np.float32)
        self.shifts = rng.choice(small, shape)
        self.books = rng.integers(0, grid.books, shape, dtype=np.uint8)

    def values(self, grid: PointGrid, choices: np.ndarray, signs: np.ndarray) -> np.ndarray:
        """What weights become: float32 (K, N)."""
        size, wide = grid.points.shape[1], lambda it: np.repeat(it, GROUP, axis=0)
        books = grid.points.reshape(grid.books, -1, size)
        chosen = books[np.repeat(self.books, GROUP // size, axis=0), choices]
        sizes = np.moveaxis(chosen, 2, 1).reshape(K, N) + wide(self.shifts)
        if grid.signed:
            return np.asarray(wide(self.scales) * sizes)
        minus = np.unpackbits(signs[:, None], axis=1, bitorder="little").reshape(K, N)
        return np.asarray(wide(self.scales) * sizes * np.where(minus, np.float32(-1), np.float32(1)))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("IQ3_S", 1), ("IQ1_M", 1), ("pairs", 1),
        ("books of fours", 0.85), ("many eights", 0.9), ("many sizes", 0.9),
    ],
)  # fmt: skip
def test_the_nearest_point_is_found(name: str, found: float) -> None:
    """Of many points, nearly always: not all are tried. What is taken in its place is nearly as near."""
    grid, w = grid_of(name), np.random.default_rng(5).standard_normal((K, N)).astype(np.float32)
    size, unit, groups = grid.points.shape[1], unit_of(grid), Groups(grid, 7)
    choices, signs = np.empty((K // size, N), np.uint16), np.empty((K // unit, N), np.uint8)
    target, q, left = w.copy(), np.empty_like(w), np.empty_like(w)
    cells, reach = cells_of(grid)
    assert (reach == 0) == (found == 1)
    units = np.arange(K // unit) * unit // GROUP
    round_points(
        FACTOR.unit, FACTOR.variances, 0, units, target, w, groups.scales, groups.shifts, groups.books, grid.points,
        len(grid.points) // grid.books, cells, reach, int(grid.even), int(grid.signed), choices, signs, q, left,
    )  # fmt: skip
    assert np.array_equal(q, groups.values(grid, choices, signs))
    assert np.array_equal(left, w - q)
    # The targets are what each unit should have become, given all before it; the metric is theirs, N D Nᵀ.
    n, d = whole(FACTOR.unit, K), FACTOR.variances.astype(np.float64)
    books, best, taken = grid.points.reshape(grid.books, -1, size).astype(np.float64), [], []
    for first in range(0, K, unit):
        inner = n[first : first + unit, first : first + unit]
        g = inner * d[first : first + unit] @ inner.T
        g = g if grid.signed else np.diag(np.diag(g))
        wanted = w[first : first + unit] + n[:first, first : first + unit].T @ left[:first].astype(np.float64)
        for c in range(unit):
            wanted[c] += inner[:c, c] @ (w[first : first + c] - wanted[:c])
        for begin in range(first, first + unit, size):
            here, part = slice(begin, begin + size), slice(begin - first, begin - first + size)
            its = g[part, part]
            for r in range(0, N, 4):
                group = begin // GROUP
                t = wanted[part, r] / groups.scales[group, r]
                made = q[here, r].astype(np.float64) / groups.scales[group, r]
                away = made - t
                taken.append(away @ its @ away)
                # Where signs are apart, with those that were chosen.
                t = t - groups.shifts[group, r] if grid.signed else t * np.where(np.signbit(made), -1, 1)
                off = books[groups.books[group, r]] - t
                best.append(np.einsum("pi,ij,pj->p", off, its, off).min())
    same = np.isclose(taken, best, rtol=1e-3)
    assert same.mean() >= found
    assert np.sum(taken) <= 1.1 * np.sum(best)


@pytest.mark.parametrize("name", ["IQ3_S", "IQ3_XXS", "IQ2_XXS", "IQ1_M", *GRIDS])
def test_rounds_lower_the_loss_until_nothing_changes(name: str) -> None:
    grid, rng = grid_of(name), np.random.default_rng(len(name))
    (count, size), unit = grid.points.shape, unit_of(grid)
    count //= grid.books
    w, groups = rng.standard_normal((K, N)).astype(np.float32), Groups(grid, len(name))
    choices = rng.integers(0, count, (K // size, N)).astype(np.uint16)
    negative = rng.integers(0, 1 if grid.signed else 2, (K // unit, unit, N)).astype(np.uint8)
    if grid.even:
        negative[:, 7] = negative[:, :7].sum(axis=1) & 1
    signs = np.packbits(negative, axis=1, bitorder="little")[:, 0].copy()
    q = groups.values(grid, choices, signs)
    p = np.ascontiguousarray(((w - q).T @ GRAM).astype(np.float32))
    cells, reach = cells_of(grid)
    losses = []
    for _ in range(200):
        off = (w - q).T.astype(np.float64)
        losses.append(float(((off @ GRAM) * off).sum()))
        changed = descend_points(
            GRAM, p, q, groups.scales, groups.shifts, groups.books, grid.points, count, cells, reach,
            int(grid.even), int(grid.signed), choices, signs,
        )  # fmt: skip
        assert np.allclose(q, groups.values(grid, choices, signs), atol=1e-6)
        assert np.allclose(p, (w - q).T @ GRAM, atol=1e-2)
        if not changed:
            break
    assert changed == 0
    assert all(later < before for before, later in pairwise(losses))
    if grid.even:
        assert (np.unpackbits(signs[:, None], axis=1).sum(axis=1) % 2 == 0).all()
