"""Signs come off: X is a size, and where their number must be even, the weight that loses least gives way."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.core.grids.iq2_signs import load_signed
from quantrecipe.core.grids.points_of_eight import ROOT
from quantrecipe.core.lanes import LANES, WORKSPACE, WT, X

N = 16


def load(x: np.ndarray, importance: np.ndarray, *, even: bool) -> tuple[np.ndarray, ...]:
    s, signs, largest = (
        np.empty(WORKSPACE, np.float32),
        np.empty(2 * LANES, np.int32),
        np.empty(LANES, np.float32),
    )
    load_signed(N, even=even, sigma=1.0)(x, importance, 0, 2, s, signs, largest)
    rows = [s[at : at + N * LANES].reshape(N, LANES).T.ravel() for at in (X, WT, ROOT)]
    return (*rows, signs.reshape(2, LANES).T.ravel(), largest)


@pytest.mark.parametrize("even", [False, True])
def test_signs_sizes_and_weights(even: bool) -> None:
    rng = np.random.default_rng(2)
    x = (rng.standard_normal(512) * 0.02).astype(np.float32)
    importance = rng.exponential(1, 256).astype(np.float32)
    sizes, weights, roots, signs, largest = load(x, importance, even=even)

    for block in range(2):
        part = slice(256 * block, 256 * (block + 1))
        mean = np.float32(sum(x[part].astype(np.float64) ** 2) / 256)
        np.testing.assert_allclose(weights[part], importance * np.sqrt(mean + x[part] ** 2), rtol=1e-5)
    assert (roots == np.sqrt(weights)).all()
    assert (largest == sizes.reshape(LANES, N).max(axis=1)).all()
    negative = (signs[:, None] >> np.arange(8) & 1).ravel().astype(bool)
    assert (np.where(negative, -sizes, sizes) == x).all()
    flipped = negative != (x < 0)
    assert (flipped == (sizes < 0)).all()
    odd = (x.reshape(-1, 8) < 0).sum(axis=1) % 2 == 1
    assert (flipped.reshape(-1, 8).sum(axis=1) == (odd if even else 0)).all()
    if even:
        assert (negative.reshape(-1, 8).sum(axis=1) % 2 == 0).all()
        loss = (weights * x * x).reshape(-1, 8)
        assert (flipped.reshape(-1, 8).argmax(axis=1)[odd] == loss.argmin(axis=1)[odd]).all()


def test_without_importance_weights_count_by_their_squares() -> None:
    x = np.linspace(-1, 1, 512, dtype=np.float32)
    _, weights, _, _, _ = load(x, np.empty(0, np.float32), even=False)
    mean = np.float32((x[:256].astype(np.float64) ** 2).sum() / 256)
    np.testing.assert_allclose(weights[:256], mean / 4 + x[:256] ** 2, rtol=1e-5)
