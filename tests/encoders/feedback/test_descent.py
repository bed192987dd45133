"""Rounds of descent end where no single weight could take a better value."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.encoders.feedback.descent import descend, stand

EVEN = np.arange(-4, 4, dtype=np.float32)
UNEVEN = np.array([-6, -3.5, -1, 0, 0.5, 2, 7], np.float32)


@pytest.mark.parametrize("values", [EVEN, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize(
    ("k", "group"), [(320, 32), (320, 16), (320, 8), (320, 160), (300, 20), (40, 8), (33, 33)]
)
def test_no_other_value_is_better(k: int, group: int, values: np.ndarray) -> None:
    rng = np.random.default_rng(k + group)
    n, inputs = 7, rng.standard_normal((3 * k, k)) @ (np.eye(k) + 0.1 * rng.standard_normal((k, k)))
    gram = (inputs.T @ inputs / (3 * k)).astype(np.float32)
    w = rng.standard_normal((n, k)).astype(np.float32)
    scales = rng.uniform(0.2, 0.4, (n, k // group)).astype(np.float32)
    offsets, shifts = (rng.uniform(-0.1, 0.1, scales.shape).astype(np.float32) for _ in range(2))
    scales[3, 0] = 0
    choices = rng.integers(0, values.size, (n, k)).astype(np.uint8)
    q = np.empty_like(w)
    stand(choices, group, scales, offsets, shifts, values, q)

    def of(chosen: np.ndarray) -> np.ndarray:
        wide = [np.repeat(it, group, axis=1) for it in (scales, offsets, shifts)]
        return np.asarray(wide[0] * (values[chosen] + wide[2]) + wide[1])

    def loss() -> float:
        off = w - q.astype(np.float64)
        return float(((off @ gram) * off).sum())

    assert np.array_equal(q, of(choices))
    p = ((w - q) @ gram).astype(np.float32)
    halfway, even = (values[:-1] + values[1:]) / np.float32(2), int(values is EVEN)
    losses = [loss()]
    for _ in range(40):
        changed = descend(
            gram, 1 / np.diagonal(gram), group, p, q, scales, offsets, shifts, values, halfway, even, choices
        )
        assert np.array_equal(q, of(choices))
        losses.append(loss())
        if not changed:
            break
    assert changed == 0
    assert losses == sorted(losses, reverse=True)
    off = w - q.astype(np.float64)
    assert np.allclose(p, off @ gram, atol=1e-3)
    # Of a change t, the loss becomes smaller by 2 P t - H t²; rounding may hide a millionth of it.
    for choice in range(values.size):
        t = of(np.full_like(choices, choice)) - q.astype(np.float64)
        assert (2 * (off @ gram) * t - np.diagonal(gram) * t**2).max() < 1e-4
