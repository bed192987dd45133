"""Rows with error feedback, beside what the method is in a few lines of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantrecipe import load_registry
from quantrecipe.api import Grid, InputStatistics
from quantrecipe.encoders.feedback.encoder import Feedback
from quantrecipe.encoders.feedback.rows import PANEL, encode_rows
from quantrecipe.errors import FormatError, ImportanceError, NonFiniteError

K = 512
FORMATS = load_registry(plugins=False).formats
WITH_GRID = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q5_1", "Q8_0", "IQ4_NL", "IQ4_XS", "MXFP4"]


def statistics(seed: int = 0, k: int = K, tokens: int = 2000) -> InputStatistics:
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((k, k)) * 0.3 * np.exp(-np.arange(k) / 100)[:, None]
    inputs = rng.standard_normal((tokens, k)) @ mixed + 0.3 * rng.standard_normal((tokens, k))
    return InputStatistics(gram=(inputs.T @ inputs / tokens).astype(np.float32), tokens=tokens)


def weights(n: int, k: int = K, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, k)) * 0.02).astype(np.float32)


STATISTICS, WEIGHTS = statistics(), weights(24)
FACTOR = Feedback({"damping": 0.01}).prepare(STATISTICS)


def loss(fmt: Any, data: np.ndarray, rows: np.ndarray = WEIGHTS) -> float:
    off = rows.astype(np.float64) - fmt.decode(data, rows.shape[1])
    return float(((off @ STATISTICS.gram) * off).sum())


def unit_of(factor: Any) -> np.ndarray:
    """N, whose strips test_factor.py looks at: H = N D Nᵀ says it as well."""
    backwards = factor.columns[::-1]
    lower = np.linalg.cholesky(factor.gram[np.ix_(backwards, backwards)].astype(np.float64))
    return np.asarray((lower / np.diagonal(lower))[::-1, ::-1])


def naive(fmt: Any, w: np.ndarray, factor: Any, rounds: int) -> np.ndarray:
    """The same in float64: targets from N, each weight the nearest that the grid has, then descent.

    Arrays have the factor's order of columns; the format gets its blocks in their own.
    """
    k, n, block, grid, columns = w.shape[1], len(w), fmt.spec.block, fmt.grid, factor.columns
    unit, h = unit_of(factor), factor.gram.astype(np.float64)
    w = w[:, columns]
    left, q = np.zeros((n, k)), np.zeros((n, k), np.float32)
    values = np.asarray(grid.values, np.float32)
    levels: dict[int, np.ndarray] = {}
    for first in range(0, k, block):
        best = (
            w[:, first : first + block].astype(np.float64)
            + left[:, :first] @ unit[:first, first : first + block]
        )
        off = np.zeros((n, block))
        for c in range(block):
            best[:, c] += off[:, :c] @ unit[first : first + c, first + c]
            off[:, c] = w[:, first + c] - best[:, c]
        own = np.argsort(columns[first : first + block])
        data = fmt.encode(best[:, own].astype(np.float32), factor.variances[first : first + block][own])
        scales, offsets = grid.scales(data, block)
        for at in range(first, first + block):
            g = columns[at] % block // grid.group
            may_be = scales[:, g, None] * values + offsets[:, g, None]
            levels[int(columns[at])] = may_be
            target = w[:, at] + left[:, :at] @ unit[:at, at]
            q[:, at] = may_be[np.arange(n), np.abs(may_be - target[:, None]).argmin(axis=1)]
            left[:, at] = w[:, at].astype(np.float64) - q[:, at]
    own = np.argsort(columns)
    w, q = w[:, own], q[:, own]
    for _ in range(rounds):
        for c in range(k):
            wanted = q[:, c] + (w - q.astype(np.float64)) @ h[:, c] / h[c, c]
            q[:, c] = levels[c][np.arange(n), np.abs(levels[c] - wanted[:, None]).argmin(axis=1)]
    return q


@pytest.mark.parametrize("ordered", [False, True], ids=["as they are", "ordered"])
@pytest.mark.parametrize("rounds", [0, 2])
@pytest.mark.parametrize("name", ["Q4_K", "Q4_0", "IQ4_NL"])
def test_it_is_the_method(name: str, rounds: int, ordered: bool) -> None:
    """float32 decides a few ties in another way, and what comes after a tie is another row; so nearly all are equal."""
    fmt = FORMATS[name]
    factor = Feedback().prepare(STATISTICS, fmt=fmt if ordered else None)
    assert (np.diff(factor.columns) < 0).any() == ordered
    data = encode_rows(WEIGHTS, fmt, factor, rounds=rounds)
    wanted = naive(fmt, WEIGHTS, factor, rounds)
    same = (fmt.decode(data, K) == wanted).all(axis=1).mean()
    assert same > 0.6
    off = WEIGHTS.astype(np.float64) - wanted
    assert loss(fmt, data) == pytest.approx(((off @ STATISTICS.gram) * off).sum(), rel=0.005)


@pytest.mark.parametrize("name", WITH_GRID)
def test_most_of_the_error_is_made_good(name: str) -> None:
    """On inputs as correlated as these, each step gains in every format."""
    fmt = FORMATS[name]
    plain = loss(fmt, fmt.encode(WEIGHTS, np.diagonal(STATISTICS.gram).copy()))
    steps = [loss(fmt, encode_rows(WEIGHTS, fmt, FACTOR, rounds=rounds)) for rounds in (0, 1, 2)]
    assert steps[0] < 0.35 * plain
    assert steps[1] < 0.95 * steps[0]
    assert steps[2] < steps[1]


@pytest.mark.parametrize("name", ["Q4_0", "IQ4_NL"])
def test_what_a_group_adds_to_values_counts(name: str) -> None:
    """The same values, said in another way: three less, and every group adds three. Only ties fall otherwise."""
    fmt: Any = FORMATS[name]

    class Moved(Grid):
        values = tuple(value - 3 for value in fmt.grid.values)
        group = fmt.grid.group
        scales = staticmethod(fmt.grid.scales)
        store = staticmethod(fmt.grid.store)

        def shifts(self, data: np.ndarray, k: int) -> np.ndarray:
            return np.full((len(data), k // self.group), 3, np.float32)

    class Shifted(type(fmt)):  # type: ignore[misc]  # the format's class, whatever it is
        grid = Moved()

    for rounds in (0, 2):
        wanted = encode_rows(WEIGHTS, fmt, FACTOR, rounds=rounds)
        data = encode_rows(WEIGHTS, Shifted(), FACTOR, rounds=rounds)
        assert (data == wanted).all(axis=1).mean() > 0.6
        assert loss(fmt, data) == pytest.approx(loss(fmt, wanted), rel=0.005)


def naive_points(fmt: Any, w: np.ndarray, factor: Any) -> np.ndarray:
    """Eights in float64: signs of what is best, and the nearest of all points by diag(N D Nᵀ).

    Points with signs of their own are the nearest by N D Nᵀ.
    """
    (n, k), block, grid = w.shape, fmt.spec.block, fmt.grid
    unit, d, columns = unit_of(factor), factor.variances.astype(np.float64), factor.columns
    w = w[:, columns]
    q, size = np.zeros((n, k)), grid.points.shape[1]
    points = grid.points.astype(np.float64)

    def best_of(first: int, last: int) -> Any:
        x = w[:, first:last] + (w[:, :first] - q[:, :first]) @ unit[:first, first:last]
        for c in range(last - first):
            x[:, c] += (w[:, first : first + c] - x[:, :c]) @ unit[first : first + c, first + c]
        return x

    for start in range(0, k, block):
        own = np.argsort(columns[start : start + block])
        data = fmt.encode(
            best_of(start, start + block)[:, own].astype(np.float32),
            factor.variances[start : start + block][own],
        )
        scales, shifts = grid.scales(data, block), grid.shifts(data, block)
        for first in range(start, start + block, 8):
            inner = unit[first : first + 8, first : first + 8]
            metric = inner * d[first : first + 8] @ inner.T
            v = np.diagonal(metric)
            g = columns[first] % block // grid.group
            for r, scale in enumerate(scales[:, g].astype(np.float64)):
                t = best_of(first, first + 8)[r] / scale
                shift = 0.0 if shifts is None else float(shifts[r, g])
                negative, size_of = (t < 0, np.abs(t)) if not grid.signed else (np.zeros(8, bool), t - shift)
                if grid.even and negative.sum() % 2:
                    cheapest = (v * t * t).argmin()
                    negative[cheapest] ^= True
                    size_of[cheapest] *= -1
                for part in range(0, 8, size):
                    here = slice(part, part + size)
                    its = metric[here, here] if grid.signed else np.diag(v[here])
                    off = size_of[here] - points
                    nearest = ((off @ its) * off).sum(axis=1).argmin()
                    value = scale * (points[nearest] + shift) * np.where(negative[here], -1, 1)
                    q[r, first + part : first + part + size] = value
    return q[:, np.argsort(columns)]


@pytest.mark.parametrize("ordered", [False, True], ids=["as they are", "ordered"])
@pytest.mark.parametrize("name", ["IQ3_S", "IQ3_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"])
def test_points_are_chosen_by_eights(name: str, ordered: bool) -> None:
    fmt, rows = FORMATS[name], WEIGHTS[:4]
    factor = Feedback().prepare(STATISTICS, fmt=fmt if ordered else None)
    wanted = naive_points(fmt, rows, factor)
    data = encode_rows(rows, fmt, factor, rounds=0)
    # float32 decides a few ties in another way, and all that comes after is another row then.
    assert np.isclose(fmt.decode(data, K), wanted, rtol=1e-6, atol=0).all(axis=1).mean() >= 0.5
    off = rows - wanted
    assert loss(fmt, data, rows) == pytest.approx(((off @ STATISTICS.gram) * off).sum(), rel=0.02)


@pytest.mark.parametrize("name", ["IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_S", "IQ1_M"])
def test_most_of_the_error_of_points_is_made_good(name: str) -> None:
    fmt = FORMATS[name]
    plain = loss(fmt, fmt.encode(WEIGHTS, np.diagonal(STATISTICS.gram).copy()))
    steps = [loss(fmt, encode_rows(WEIGHTS, fmt, FACTOR, rounds=rounds)) for rounds in (0, 1, 2)]
    assert steps[0] < 0.4 * plain
    assert steps[1] < 0.95 * steps[0]
    assert steps[2] < steps[1]


@pytest.mark.parametrize("name", ["Q4_K", "Q4_0", "IQ3_S"])
def test_the_largest_inputs_first_lose_less(name: str) -> None:
    """Where inputs are of very different sizes, in any order."""
    fmt = FORMATS[name]
    sizes = np.random.default_rng(4).permutation(np.geomspace(0.05, 5, K)).astype(np.float32)
    given = InputStatistics(gram=STATISTICS.gram * sizes * sizes[:, None], tokens=2000)
    lost = []
    encoder = Feedback({"damping": 0.01})
    for factor in (encoder.prepare(given), encoder.prepare(given, fmt=fmt)):
        off = WEIGHTS - fmt.decode(encode_rows(WEIGHTS, fmt, factor, rounds=2), K)
        lost.append(float(((off.astype(np.float64) @ given.gram) * off).sum()))
    assert lost[1] < 0.95 * lost[0]


def test_the_order_of_other_blocks_is_refused() -> None:
    for mine, other in (("Q4_0", "Q4_K"), ("Q4_K", "Q4_0"), ("Q4_K", "IQ3_S")):
        factor = Feedback().prepare(STATISTICS, fmt=FORMATS[mine])
        with pytest.raises(FormatError, match=f"takes blocks of {other} apart"):
            encode_rows(WEIGHTS, FORMATS[other], factor, rounds=0)
    encode_rows(WEIGHTS, FORMATS["Q4_K"], Feedback().prepare(STATISTICS, fmt=FORMATS["IQ3_S"]), rounds=0)


@pytest.mark.parametrize("name", ["IQ1_M", "Q4_0", "Q3_K"])
def test_a_format_without_a_grid_gains_between_its_blocks(name: str) -> None:
    class Without(type(FORMATS[name])):  # type: ignore[misc]  # the format's class, whatever it is
        grid = None

    fmt = Without()
    plain = loss(fmt, fmt.encode(WEIGHTS, np.diagonal(STATISTICS.gram).copy()))
    assert loss(fmt, encode_rows(WEIGHTS, fmt, FACTOR, rounds=2)) < 0.8 * plain


def test_scales_are_those_that_encode_found() -> None:
    fmt = FORMATS["Q4_K"]
    without, with_descent = (encode_rows(WEIGHTS, fmt, FACTOR, rounds=rounds) for rounds in (0, 2))
    assert not np.array_equal(without, with_descent)
    blocks = [data.reshape(len(data), -1, 144)[..., :16] for data in (without, with_descent)]
    assert np.array_equal(blocks[0], blocks[1])


def test_panels_of_rows_are_apart() -> None:
    fmt, rows = FORMATS["Q4_0"], weights(PANEL + 3)
    whole = encode_rows(rows, fmt, FACTOR, rounds=1)
    assert np.array_equal(encode_rows(rows[PANEL - 5 :], fmt, FACTOR, rounds=1), whole[PANEL - 5 :])


def test_rows_of_zeros_stay_zero() -> None:
    rows = WEIGHTS.copy()
    rows[3] = 0
    for name in WITH_GRID:
        fmt = FORMATS[name]
        assert (fmt.decode(encode_rows(rows, fmt, FACTOR, rounds=2), K)[3] == 0).all(), name


def test_inputs_that_don_t_go_together_leave_nothing_to_make_good() -> None:
    """Q8_0's own encoder rounds with the scale as it was before it became an f16: a few weights come out better."""
    fmt = FORMATS["Q8_0"]
    factor = Feedback().prepare(InputStatistics(gram=np.eye(K, dtype=np.float32), tokens=K))
    data, plain = encode_rows(WEIGHTS, fmt, factor, rounds=2), fmt.encode(WEIGHTS)
    assert (data == plain).mean() > 0.98
    off = [np.abs(fmt.decode(it, K) - WEIGHTS) for it in (data, plain)]
    assert (off[0] <= off[1]).all()


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (weights(2, 256), FormatError, "of 512 inputs, and a row has 256 weights"),
        (
            np.where(np.arange(K) == 7, np.nan, weights(2)).astype(np.float32),
            NonFiniteError,
            "row 0, column 7",
        ),
    ],
)
def test_what_can_t_be_encoded_is_refused(rows: np.ndarray, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        encode_rows(rows, FORMATS["Q4_K"], FACTOR, rounds=0)


class TestEncoder:
    def test_it_has_to_be_prepared(self) -> None:
        with pytest.raises(FormatError, match="has to be prepared"):
            Feedback().encode(WEIGHTS, FORMATS["Q4_K"])
        with pytest.raises(ImportanceError, match="needs the Gram matrix"):
            Feedback().prepare(None)

    def test_options_count(self) -> None:
        harder = Feedback({"damping": 0.3, "rounds": 0})
        assert harder.prepare(STATISTICS).damping == 0.3
        assert FACTOR.damping == 0.01
        data = harder.encode(WEIGHTS, FORMATS["Q4_K"], None, FACTOR)
        assert np.array_equal(data, encode_rows(WEIGHTS, FORMATS["Q4_K"], FACTOR, rounds=0))
        with pytest.raises(FormatError, match="feedback has no option 'damp'"):
            Feedback({"damp": 1})

    def test_what_it_can_t_do_it_says(self) -> None:
        assert Feedback().accepts(FORMATS["Q4_K"]) is None
        assert Feedback().accepts(FORMATS["I8"]) == "I8 only passes through"
