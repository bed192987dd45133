"""Mixes beside each other: what is hard for both cancels; and journals that know them again."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantrecipe.evaluate import Blocks, Positions
from quantrecipe.measure.journal import Journal
from quantrecipe.measure.mixed import Mixed, line_of_mix, mix_of_line, mixed, paired

RNG = np.random.default_rng(5)
HARD = RNG.uniform(0.1, 2.0, 40)


def of(values: np.ndarray, counts: tuple[int, ...] = (7,) * 40) -> Mixed:
    sums = tuple((values * np.array(counts)).tolist())
    return Mixed(key="k", what="mix", resident="F32", counts=counts, divergence=sums, cost=sums)


def test_means_are_over_positions() -> None:
    found = of(np.array([1.0, 3.0]), (10, 30))
    assert found.kld == found.mean_cost == pytest.approx(2.5)
    assert found.positions == 40


def test_a_difference_in_pairs_is_surer_than_both() -> None:
    one, other = of(0.9 * HARD), of(HARD)
    change, error = paired(one, other)
    assert change == pytest.approx(-0.1 * HARD.mean())
    assert error == pytest.approx(0.1 * HARD.std(ddof=1) / math.sqrt(40))
    assert error < 0.15 * one.standard_error


def test_a_single_block_says_nothing_of_its_error() -> None:
    assert of(np.array([1.0]), (5,)).standard_error == math.inf


def test_positions_are_summed_by_their_blocks() -> None:
    values = np.arange(6.0)
    block = np.array([0, 0, 1, 1, 1, 2])
    blocks = Blocks(
        block=block,
        stratum=np.zeros(3, int),
        texts=("t",),
        text=block * 0,
        buckets=((0, 1),),
        bucket=block * 0,
    )
    positions = Positions(cost=values, reference_cost=values, divergence=2 * values, agrees=values)
    found = mixed("k", "w", "F32", positions, blocks)
    assert found.counts == (2, 3, 1)
    assert found.divergence == (2.0, 18.0, 10.0)
    assert found.cost == (1.0, 9.0, 5.0)


def test_a_line_is_the_mix_again() -> None:
    found = of(HARD)
    assert mix_of_line(json.loads(json.dumps(line_of_mix(found)))) == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"counts": []},
        {"counts": [1]},
        {"counts": [0, 1]},
        {"divergence": ["x", 1]},
        {"cost": [float("nan"), 1]},
    ],
)
def test_a_damaged_line_is_none(wrong: dict[str, object]) -> None:
    line = line_of_mix(of(np.array([1.0, 2.0]), (1, 1)))
    with pytest.raises(ValueError):
        mix_of_line(line | wrong)


def test_journals_keep_mixes(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.jsonl"
    mixes = [of(HARD), replace(of(HARD), what="other")]
    for mix in mixes:
        with Journal(path, {}) as journal:
            journal.add_mix(mix)
    with Journal(path, {}) as journal:
        assert journal.mixes == mixes
        assert journal.probes == journal.tensors == []
