"""Verdicts: each limit, from both sides, and how much text would settle what this one doesn't."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.evaluate import (
    Noise,
    Pair,
    Positions,
    Reference,
    blocks_of,
    compare_files,
    draw,
    intervals_of,
    summarise,
)
from quantrecipe.evaluate.reference import ScoredText

CHUNKS, SCORED = 60, 9
REFERENCE = Reference(
    path=Path("r"),
    model="m",
    key="",
    n_ctx=20,
    n_vocab=9,
    vocabulary="",
    tail=0.0,
    texts=(ScoredText(name="code", digest="", chunks=40), ScoredText(name="prose", digest="", chunks=20)),
    tokens=np.zeros((CHUNKS, 20), np.int32),
)
BLOCKS = blocks_of(REFERENCE)
BASE = np.random.default_rng(0).exponential(0.01, (CHUNKS, SCORED))


def positions(divergence: NDArray[np.float64], cost: float = 2.0) -> Positions:
    flat = divergence.ravel()
    return Positions(
        cost=np.full_like(flat, cost),
        reference_cost=np.full_like(flat, 2.0),
        divergence=flat,
        agrees=(flat < 0.02).astype(float),
    )


def pair(other: NDArray[np.float64], base: NDArray[np.float64] = BASE, noise: float | None = None) -> Pair:
    both = [positions(it) for it in (other, base)]
    one, two = ((summarise(it), draw(it, BLOCKS)) for it in both)
    measured = None if noise is None else Noise(positions=10, mean=noise, largest=noise)
    return compare_files(one, two, BLOCKS, measured)


def changed(by: float, spread: float = 0.0) -> NDArray[np.float64]:
    """The base, changed by a factor on the whole, and by another for each chunk."""
    each = np.random.default_rng(1).normal(0, spread, (CHUNKS, 1))
    return BASE * (1 + by + each - each.mean() * (BASE.mean(axis=1, keepdims=True) / BASE.mean()))


@pytest.mark.parametrize(
    ("by", "verdict"),
    [
        (-0.5, "better"),
        (-0.11, "better"),
        (-0.09, "slightly better"),
        (-0.04, "slightly better"),
        (-0.02, "same"),
        (0.02, "same"),
        (0.04, "slightly worse"),
        (0.09, "slightly worse"),
        (0.11, "worse"),
        (9.0, "worse"),
    ],
)
def test_a_change_that_is_the_same_everywhere(by: float, verdict: str) -> None:
    found = pair(changed(by))
    assert found.verdict == verdict
    assert found.kld_mean.value == pytest.approx(by)
    assert found.kld_mean.known == pytest.approx((by, by))
    assert found.kld_99.value == pytest.approx(by)
    assert found.text_needed is None


@pytest.mark.parametrize(
    ("by", "verdict"), [(0.2, "worse"), (-0.2, "better"), (0.06, "unknown"), (0.0, "unknown")]
)
def test_a_verdict_needs_its_whole_interval(by: float, verdict: str) -> None:
    found = pair(changed(by, 0.3))
    known = found.kld_mean.known
    assert known is not None
    assert known[0] < by - 0.04
    assert known[1] > by + 0.04
    assert found.verdict == verdict
    assert (found.text_needed is None) == (verdict != "unknown")


def test_how_much_text_it_takes() -> None:
    """Half of the interval has to become as short as the way to the limit, and goes with the root of the text."""
    found = pair(changed(0.0, 0.3))
    assert found.kld_mean.known is not None
    low, high = found.kld_mean.known
    value = found.kld_mean.value
    expected = max((value - low) / (value + 0.03), (high - value) / (0.03 - value)) ** 2
    assert found.text_needed == pytest.approx(expected)
    assert expected > 2


def test_where_no_text_would_do() -> None:
    found = pair(changed(0.0299, 0.3))
    assert found.verdict == "unknown"
    assert found.text_needed is None


def test_what_is_below_the_noise_doesn_t_count() -> None:
    """Whatever the interval says: a change of a tenth of next to nothing."""
    tiny = BASE * 1e-6
    assert pair(tiny * 1.5, tiny).verdict == "worse"
    assert pair(tiny * 1.5, tiny, noise=1e-8).verdict == "noise"
    assert pair(tiny * 1.5, tiny, noise=1e-9).verdict == "worse"
    assert pair(tiny, tiny * 1.5, noise=1e-9).verdict == "better"


def test_a_change_is_relative_to_the_noise_at_least() -> None:
    found = pair(BASE, BASE * 0, noise=1e-6)
    assert found.verdict == "worse"
    assert found.kld_mean.value == pytest.approx(BASE.mean() / 1e-6)
    assert pair(BASE * 0, BASE * 0).verdict == "same"


def test_too_few_chunks() -> None:
    small = Reference(
        path=Path("r"),
        model="m",
        key="",
        n_ctx=20,
        n_vocab=9,
        vocabulary="",
        tail=0.0,
        texts=(ScoredText(name="code", digest="", chunks=4),),
        tokens=np.zeros((4, 20), np.int32),
    )
    blocks = blocks_of(small)
    one, two = (
        (summarise(it), draw(it, blocks)) for it in (positions(BASE[:4] * factor) for factor in (2, 1))
    )
    found = compare_files(one, two, blocks, None)
    assert (found.verdict, found.kld_mean.known) == ("unknown", None)
    assert found.kld_mean.value == pytest.approx(1)
    assert found.text_needed == pytest.approx(2.5)


def test_perplexity_and_agreement() -> None:
    both = [positions(BASE * 2, 2.0 + np.log(1.5)), positions(BASE)]
    one, two = ((summarise(it), draw(it, BLOCKS)) for it in both)
    found = compare_files(one, two, BLOCKS, None)
    assert found.perplexity.known == pytest.approx((0.5, 0.5))
    lost = (BASE * 2 < 0.02).mean() - (BASE < 0.02).mean()
    assert found.top1.value == pytest.approx(lost)
    assert found.top1.known is not None
    assert found.top1.known[0] < lost < found.top1.known[1] < 0


def test_the_figures_of_one_file() -> None:
    values = positions(BASE)
    evaluation = summarise(values)
    found = intervals_of(values, evaluation, draw(values, BLOCKS), BLOCKS)
    assert found.kld_mean.value == evaluation.kld_mean
    assert found.by_text["code"].value == pytest.approx(BASE[:40].mean())
    assert found.by_text["prose"].value == pytest.approx(BASE[40:].mean())
    parts = [BASE[:, part.first - 11 : part.last - 10].mean() for part in found.by_context]
    assert [part.kld_mean.value for part in found.by_context] == pytest.approx(parts)
    intervals = [
        found.kld_mean,
        found.top1,
        *found.by_text.values(),
        *(it.kld_mean for it in found.by_context),
    ]
    assert all(it.known is not None and it.known[0] < it.value < it.known[1] for it in intervals)
    assert found.perplexity.known == pytest.approx((np.exp(2), np.exp(2)))
    assert found.kld_999.known is None  # half a position is above it


def test_a_part_in_which_nothing_counts_is_left_out() -> None:
    counted = np.zeros((CHUNKS, SCORED), bool)
    counted[:, 0] = True
    some = Reference(
        **{
            name: getattr(REFERENCE, name)
            for name in ("path", "model", "key", "n_ctx", "n_vocab", "vocabulary")
        },
        tail=0.0,
        texts=REFERENCE.texts,
        tokens=REFERENCE.tokens,
        counted=counted,
    )
    blocks, values = blocks_of(some), positions(BASE[:, :1])
    found = intervals_of(values, summarise(values), draw(values, blocks), blocks)
    assert [(part.first, part.kld_mean.value) for part in found.by_context] == [
        (11, pytest.approx(BASE[:, 0].mean()))
    ]
