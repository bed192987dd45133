"""Intervals: what they hold of texts whose positions hang together, and that every draw is what it says."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.evaluate import Blocks, Interval, Positions, Reference, blocks_of, draw, summarise
from quantrecipe.evaluate import resampling as resampling_module
from quantrecipe.evaluate.reference import ScoredText

N_CTX, SCORED = 20, 9


def reference(chunks: tuple[int, ...] = (12,), **more: object) -> Reference:
    texts = tuple(ScoredText(name=f"t{n}", digest="", chunks=count) for n, count in enumerate(chunks))
    tokens = np.zeros((sum(chunks), N_CTX), np.int32)
    facts = {"path": Path("r"), "model": "m", "key": "", "n_vocab": 9, "vocabulary": "", "tail": 0.0}
    return Reference(n_ctx=N_CTX, texts=texts, tokens=tokens, **facts, **more)  # type: ignore[arg-type]  # by name


def positions(divergence: NDArray[np.float64]) -> Positions:
    flat = divergence.ravel()
    return Positions(cost=flat + 1, reference_cost=flat, divergence=flat, agrees=(flat < 1).astype(float))


def in_blocks(rng: np.random.Generator, blocks: int, of: int, common: float) -> NDArray[np.float64]:
    """Values of mean 1, of which those of a block have a part in common."""
    shared = rng.exponential(1, (blocks, 1))
    return common * shared + (1 - common) * rng.exponential(1, (blocks, of))


class TestBlocks:
    def test_a_chunk_is_a_block_and_texts_keep_to_themselves(self) -> None:
        blocks = blocks_of(reference((3, 2)))
        assert blocks.block.tolist() == np.repeat(range(5), SCORED).tolist()
        assert blocks.stratum.tolist() == [0, 0, 0, 1, 1]
        assert (blocks.count, blocks.freedom) == (5, 3)
        assert blocks.text.tolist() == [0] * 3 * SCORED + [1] * 2 * SCORED

    def test_documents(self) -> None:
        blocks = blocks_of(reference((3, 2), blocks=np.array([0, 0, 4, 6, 7], np.int32)))
        assert blocks.block[::SCORED].tolist() == [0, 0, 1, 2, 3]
        assert blocks.stratum.tolist() == [0, 0, 1, 1]

    def test_a_text_of_one_block_is_drawn_with_the_others(self) -> None:
        assert blocks_of(reference((3, 1))).stratum.tolist() == [0, 0, 0, 0]

    def test_only_what_counts(self) -> None:
        counted = np.zeros((3, SCORED), bool)
        counted[0, 2] = counted[1, 8] = counted[2, 0] = True
        blocks = blocks_of(reference((3,), counted=counted))
        assert blocks.block.tolist() == [0, 1, 2]
        # Position 10 is the first that is scored, and its token has 11 before it.
        assert [blocks.buckets[n] for n in blocks.bucket] == [(13, 14), (17, 19), (11, 12)]

    def test_buckets_are_all_of_the_scored_half(self) -> None:
        blocks = blocks_of(reference())
        assert (blocks.buckets[0][0], blocks.buckets[-1][1]) == (11, 19)
        assert all(a[1] + 1 == b[0] for a, b in zip(blocks.buckets, blocks.buckets[1:], strict=False))
        first = blocks.bucket[:SCORED]
        sizes = [int((first == n).sum()) for n in range(len(blocks.buckets))]
        assert sizes == [last - start + 1 for start, last in blocks.buckets]


class TestDraws:
    def test_the_same_every_time_whatever_is_held_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        values = positions(np.random.default_rng(0).exponential(1, (40, SCORED)) * 2)
        blocks = blocks_of(reference((30, 10)))
        one = draw(values, blocks)
        monkeypatch.setattr(resampling_module, "_AT_ONCE", 700)
        other = draw(values, blocks)
        assert np.allclose(one.kld, other.kld, rtol=1e-12)
        assert np.allclose(one.by_text, other.by_text, rtol=1e-12)

    def test_the_stream_is_the_one_that_was_published(self) -> None:
        """Another version of numpy, or of this, that draws otherwise would change every figure."""
        weights = next(resampling_module._weights(blocks_of(reference((4, 3))), 2))
        assert weights.tolist() == [[1, 1, 0, 2, 2, 1, 0], [2, 0, 2, 0, 0, 2, 1]]

    def test_each_text_keeps_its_number_of_blocks(self) -> None:
        (weights,) = resampling_module._weights(blocks_of(reference((5, 3))), 2000)
        assert set(weights[:, :5].sum(axis=1)) == {5}
        assert set(weights[:, 5:].sum(axis=1)) == {3}
        assert weights.mean(axis=0) == pytest.approx(1, abs=0.1)

    def test_means_are_those_of_what_is_drawn(self) -> None:
        values = np.random.default_rng(1).exponential(1, (12, SCORED))
        blocks = blocks_of(reference())
        drawn = draw(positions(values), blocks)
        (weights,) = resampling_module._weights(blocks, 2000)
        for number in (0, 7, 1999):
            rows = np.repeat(values, weights[number].astype(int), axis=0)
            assert drawn.kld[number] == pytest.approx(rows.mean())
            assert drawn.cost[number] == pytest.approx(rows.mean() + 1)
            assert drawn.top1[number] == pytest.approx((rows < 1).mean())
            for place, (first, last) in enumerate(blocks.buckets):
                assert drawn.by_bucket[number, place] == pytest.approx(rows[:, first - 11 : last - 10].mean())

    def test_quantiles_are_those_of_what_is_drawn(self) -> None:
        """Where all that is large stands in few chunks, too, and a draw has none of these."""
        values = np.random.default_rng(2).exponential(1, (200, SCORED))
        values[3:12] += 50
        blocks = blocks_of(reference((200,)))
        drawn = draw(positions(values), blocks).kld_99
        assert drawn is not None
        weights = np.concatenate(list(resampling_module._weights(blocks, 500)))
        without = np.flatnonzero(weights[:, 3:12].sum(axis=1) == 0)
        assert len(without) or weights[:, 3:12].sum(axis=1).min() == 1
        fewest = int(weights[:, 3:12].sum(axis=1).argmin())
        for number in (0, 11, 1500, fewest):
            rows = np.sort(np.repeat(values, weights[number].astype(int), axis=0).ravel())
            assert drawn[number] == rows[rows.size - 18]  # a hundredth of 1,800

    def test_a_quantile_of_too_few(self) -> None:
        drawn = draw(positions(np.ones((120, SCORED))), blocks_of(reference((120,))))
        assert drawn.kld_99 is not None
        assert drawn.kld_999 is None


class TestIntervals:
    @pytest.mark.parametrize(("blocks", "common"), [(12, 0.5), (60, 0.0), (60, 0.7)])
    def test_they_hold_the_truth_nineteen_times_of_twenty(self, blocks: int, common: float) -> None:
        rng = np.random.default_rng(3)
        places = blocks_of(reference((blocks,)))
        held = naive = 0
        for _ in range(200):
            values = positions(in_blocks(rng, blocks, SCORED, common))
            figures = summarise(values)
            interval = places.interval(figures.kld_mean, draw(values, places).kld)
            assert interval.known is not None
            held += interval.known[0] < 1 < interval.known[1]
            naive += abs(figures.kld_mean - 1) < 1.96 * figures.kld_mean_error
        assert 178 <= held <= 198  # skewed values cost a per cent or two, as they do every interval
        if common:
            assert naive < 165  # what a standard error of independent positions claims

    def test_what_few_blocks_hide_is_added_back(self) -> None:
        """Student's t for eleven degrees of freedom, 2.201, times the root of 12/11."""
        places = blocks_of(reference((12,)))
        normal = NormalDist()
        draws = np.array([normal.inv_cdf((number + 0.5) / 100_000) for number in range(100_000)])
        known = places.interval(0.0, draws).known
        assert known == pytest.approx((-2.2989, 2.2989), abs=0.005)

    def test_both_files_have_the_same_draws(self) -> None:
        values = in_blocks(np.random.default_rng(4), 40, SCORED, 0.7)
        places = blocks_of(reference((40,)))
        one, other = draw(positions(values), places), draw(positions(values * 1.05), places)
        ratio = places.interval(1.05, other.kld / one.kld)
        assert ratio.known == pytest.approx((1.05, 1.05))
        assert places.interval(1.0, one.kld).known != pytest.approx((1.0, 1.0), abs=0.1)

    def test_more_text_narrows_them_by_its_root(self) -> None:
        widths = []
        for blocks in (50, 200):
            values = positions(in_blocks(np.random.default_rng(5), blocks, SCORED, 0.5))
            places = blocks_of(reference((blocks,)))
            known = places.interval(1.0, draw(values, places).kld).known
            assert known is not None
            widths.append(known[1] - known[0])
        assert widths[0] / widths[1] == pytest.approx(2, rel=0.3)

    def test_little_text_says_nothing(self) -> None:
        places = blocks_of(reference((9,)))
        drawn = draw(positions(np.random.default_rng(6).exponential(1, (9, SCORED))), places)
        assert places.interval(1.0, drawn.kld) == Interval(value=1.0)
        assert places.interval(1.0, drawn.kld).known is None

    def test_what_was_never_drawn_is_left_out(self) -> None:
        places: Blocks = blocks_of(reference())
        draws = np.full(100, np.nan)
        assert places.interval(1.0, draws).known is None
        draws[:50] = 2.0
        assert places.interval(1.0, draws).known == (2.0, 2.0)
