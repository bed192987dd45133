"""Descent among points: each change lowers the loss, and it ends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from quantrecipe import load_registry
from quantrecipe.api import PointGrid
from quantrecipe.encoders.feedback.points import EIGHT, descend_points

FORMATS = load_registry(plugins=False).formats
K, N = 320, 32


@pytest.mark.parametrize("name", ["IQ3_S", "IQ3_XXS", "IQ2_XXS", "IQ1_M"])
def test_rounds_lower_the_loss_until_nothing_changes(name: str) -> None:
    grid = FORMATS[name].grid
    assert isinstance(grid, PointGrid)
    rng, (count, size) = np.random.default_rng(len(name)), grid.points.shape
    inputs = rng.standard_normal((2 * K, K)) @ (np.eye(K) + 0.1 * rng.standard_normal((K, K)))
    gram = (inputs.T @ inputs / (2 * K)).astype(np.float32)
    w = rng.standard_normal((K, N)).astype(np.float32)
    top = float(np.abs(grid.points).max())
    scales = rng.uniform(2 / top, 3 / top, (K // 32, N)).astype(np.float32)
    shifts = rng.choice(
        np.array([-0.125, 0.125], np.float32) if grid.signed else np.zeros(1, np.float32), scales.shape
    )
    choices = rng.integers(0, count, (K // size, N)).astype(np.uint16)
    negative = rng.integers(0, 1 if grid.signed else 2, (K // EIGHT, EIGHT, N)).astype(np.uint8)
    if grid.even:
        negative[:, 7] = negative[:, :7].sum(axis=1) & 1
    signs = np.packbits(negative, axis=1, bitorder="little")[:, 0].copy()

    def stand() -> np.ndarray:
        sizes = np.moveaxis(grid.points[choices], 2, 1).reshape(K, N) + np.repeat(shifts, 32, axis=0)
        minus = np.unpackbits(signs[:, None], axis=1, bitorder="little").reshape(K, N)
        return np.asarray(
            np.repeat(scales, 32, axis=0) * sizes * np.where(minus, np.float32(-1), np.float32(1))
        )

    q = stand()
    p = np.ascontiguousarray(((w - q).T @ gram).astype(np.float32))
    losses = []
    for _ in range(200):
        off = (w - q).T.astype(np.float64)
        losses.append(float(((off @ gram) * off).sum()))
        changed = descend_points(
            gram, p, q, scales, shifts, grid.points, int(grid.even), int(grid.signed), choices, signs
        )
        assert np.allclose(q, stand(), atol=1e-6)
        assert np.allclose(p, (w - q).T @ gram, atol=1e-2)
        if not changed:
            break
    assert changed == 0
    assert all(later < before for before, later in pairwise(losses))
    if grid.even:
        assert (np.unpackbits(signs[:, None], axis=1).sum(axis=1) % 2 == 0).all()
