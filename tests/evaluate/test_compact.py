"""What the compact form keeps, and what it does to a divergence: against sums over the whole vocabulary."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate.compact import DEFAULT_TAIL, CompactRows, compact, pack, unpack
from quantrecipe.evaluate.positions import Positions, compare

ROWS, VOCABULARY = 60, 1501


def logits(seed: int = 0, *, rows: int = ROWS, peak: float = 3.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal((rows, VOCABULARY)) * peak).astype(np.float32)


def nearby(reference: NDArray[np.float32], size: float, seed: int = 9) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).standard_normal(reference.shape) * size
    return (reference + noise).astype(np.float32)


def targets(rows: int = ROWS) -> NDArray[np.int32]:
    return np.random.default_rng(5).integers(0, VOCABULARY, rows).astype(np.int32)


def naive_log_softmax(row: NDArray[np.float32]) -> list[float]:
    values = [float(value) for value in row]
    top = max(values)
    total = math.log(math.fsum(math.exp(value - top) for value in values)) + top
    return [value - total for value in values]


def naive_divergence(reference: NDArray[np.float32], model: NDArray[np.float32]) -> list[float]:
    result = []
    for row, other in zip(reference.astype(np.float64), model.astype(np.float64), strict=True):
        p, q = np.exp(row) / np.exp(row).sum(), np.exp(other) / np.exp(other).sum()
        result.append(float((p * np.log(p / q)).sum()))
    return result


def through_a_file(
    reference: NDArray[np.float32], model: NDArray[np.float32], tail: float
) -> NDArray[np.float64]:
    record = pack(compact(reference, targets(len(reference)), tail))
    rows = unpack(record, len(reference), VOCABULARY)
    return compare(model, targets(len(reference)), rows).divergence


@pytest.mark.parametrize("size", [0.01, 0.1, 1.0])
def test_every_token_kept_is_exact(size: float) -> None:
    """But for the rounding of p, which changes a position by about a ten-thousandth of its log-ratios."""
    reference = logits()
    model = nearby(reference, size)
    expected = naive_divergence(reference, model)
    assert through_a_file(reference, model, 0.0) == pytest.approx(expected, rel=1e-4, abs=1e-4 * size)


@pytest.mark.parametrize("size", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("peak", [1.0, 3.0, 8.0], ids=["flat", "middling", "peaked"])
def test_the_mean_is_right_to_a_thousandth(size: float, peak: float) -> None:
    """It wouldn't be without the estimate for the tail, which holds three times as much."""
    reference = logits(rows=400, peak=peak)
    model = nearby(reference, size)
    expected = float(np.mean(naive_divergence(reference, model)))
    bound = 1e-3 if size < 1 else 2e-3  # the estimate is of second order
    assert through_a_file(reference, model, DEFAULT_TAIL).mean() == pytest.approx(expected, rel=bound)


def test_the_tail_is_no_more_than_asked_for() -> None:
    rows = compact(logits(), targets(), 0.01)
    assert rows.tail.max() <= 0.01
    assert rows.mask.sum() < compact(logits(), targets(), 0.001).mask.sum() < ROWS * VOCABULARY * 0.6
    for row, mask, tail in zip(logits(), rows.mask, rows.tail, strict=True):
        p = np.exp(naive_log_softmax(row))
        assert p[~mask].sum() == pytest.approx(tail, rel=1e-4)
        assert p[~mask].max() <= p[mask].min()
        # Nothing is kept that could have gone: but for an eighth of a nat's worth.
        threshold = p[mask].min() * math.exp(1 / 8)
        assert p[p <= threshold].sum() > 0.01 * 0.95


def test_costs_and_the_likeliest_token_are_exact() -> None:
    reference = logits()
    rows = unpack(pack(compact(reference, targets())), ROWS, VOCABULARY)
    costs = [-naive_log_softmax(row)[t] for row, t in zip(reference, targets(), strict=True)]
    assert rows.cost == pytest.approx(costs, rel=1e-6)
    model = nearby(reference, 1.0)
    positions = compare(model, targets(), rows)
    agrees = [int(np.argmax(a) == np.argmax(b)) for a, b in zip(reference, model, strict=True)]
    assert positions.agrees.tolist() == agrees
    assert 0 < sum(agrees) < ROWS
    expected = [-naive_log_softmax(row)[t] for row, t in zip(model, targets(), strict=True)]
    assert positions.cost == pytest.approx(expected, rel=1e-6)
    assert positions.reference_cost == pytest.approx(costs, rel=1e-6)


def test_certainty() -> None:
    """One token has all the mass: nothing is left for the tail, on either side."""
    reference = np.full((2, VOCABULARY), -200, np.float32)
    reference[0, 7] = reference[1, 9] = 200
    model = reference.copy()
    model[1, 9], model[1, 10] = 0, 0  # two tokens share it
    divergence = through_a_file(reference, model, DEFAULT_TAIL)
    assert divergence == pytest.approx([0, math.log(2)], abs=1e-6)


def test_compact_is_small() -> None:
    peaked = logits(peak=8.0)
    record = pack(compact(peaked, targets()))
    assert len(record) < ROWS * VOCABULARY * 2 / 20


def test_rows_in_blocks_are_the_same_rows() -> None:
    reference, model, next_ = logits(), nearby(logits(), 0.1), targets()
    blocks = [slice(start, start + 7) for start in range(0, ROWS, 7)]
    whole = compact(reference, next_)
    joined = CompactRows.join([compact(reference[block], next_[block]) for block in blocks])
    assert pack(joined) == pack(whole)
    parts = [
        compare(model[block], next_[block], part)
        for block, part in zip(blocks, whole.parts(blocks), strict=True)
    ]
    at_once = compare(model, next_, whole)
    assert np.array_equal(Positions.join(parts).stacked(), at_once.stacked())


@pytest.mark.parametrize("damage", ["cut", "noise", "other rows", "longer"])
def test_a_damaged_record(damage: str) -> None:
    record = pack(compact(logits(), targets()))
    rows = ROWS
    if damage == "cut":
        record = record[: len(record) // 2]
    elif damage == "noise":
        record = b"\0" * 50
    elif damage == "other rows":
        rows = ROWS + 1
    else:
        import zlib

        record = zlib.compress(zlib.decompress(record) + b"\0" * 8)
    with pytest.raises(EvaluationError, match="a record is damaged"):
        unpack(record, rows, VOCABULARY)
