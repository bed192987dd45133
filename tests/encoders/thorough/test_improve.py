"""`thorough`: no block loses more than in plain encoding, and most lose less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantrecipe import load_registry
from quantrecipe.encoders.thorough.encoder import Thorough
from quantrecipe.errors import FormatError
from quantrecipe.testing import nasty_rows

K = 512
FORMATS = load_registry(plugins=False).formats
RNG = np.random.default_rng(7)
WEIGHTS = (RNG.standard_t(5, (40, K)) * 0.02).astype(np.float32)
IMPORTANCE = RNG.lognormal(0, 1, K).astype(np.float32)
GAINS = {
    "Q2_K": 0.79, "Q3_K": 0.952, "Q4_K": 0.967, "Q5_K": 0.905, "Q6_K": 0.903, "Q4_0": 0.94, "Q5_0": 0.933,
    "Q8_0": 0.863, "Q4_1": 0.83, "Q5_1": 0.8, "IQ4_NL": 0.948, "IQ4_XS": 0.947, "MXFP4": 0.952, "TQ2_0": 0.496,
}  # fmt: skip
"""What is left at most of the squared error of plain encoding without importance, by type."""


def losses(fmt: Any, rows: np.ndarray, data: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """Of each block, float64 (n, blocks)."""
    with np.errstate(all="ignore"):
        squares = np.square(rows - fmt.decode(data, K).astype(np.float64)) * importance
    return np.asarray(squares.reshape(len(rows), -1, fmt.spec.block).sum(axis=2))


@pytest.mark.parametrize("with_importance", [False, True], ids=["alike", "importance"])
@pytest.mark.parametrize("name", GAINS)
def test_no_block_is_worse(name: str, with_importance: bool) -> None:
    fmt, importance = FORMATS[name], IMPORTANCE if with_importance else None
    counts = IMPORTANCE if with_importance else np.ones(K, np.float32)
    plain, data = fmt.encode(WEIGHTS, importance), Thorough().encode(WEIGHTS, fmt, importance)
    lost = [losses(fmt, WEIGHTS, it, counts) for it in (plain, data)]
    assert (lost[1] <= lost[0]).all()
    assert lost[1].sum() < (1 if with_importance else GAINS[name]) * lost[0].sum()
    blocks = [it.reshape(*lost[0].shape, fmt.spec.block_bytes) for it in (plain, data)]
    assert ((blocks[0] == blocks[1]).all(axis=2) == (lost[0] == lost[1])).all()


@pytest.mark.parametrize("name", GAINS)
def test_rows_that_quantizers_stumble_over_are_no_worse(name: str) -> None:
    fmt, rows = FORMATS[name], nasty_rows(RNG, 48, K)
    plain, data = fmt.encode(rows, IMPORTANCE), Thorough().encode(rows, fmt, IMPORTANCE)
    lost = [losses(fmt, rows, it, IMPORTANCE) for it in (plain, data)]
    finite = np.isfinite(lost[0])
    assert (lost[1][finite] <= lost[0][finite]).all()
    blocks = [it.reshape(*finite.shape, fmt.spec.block_bytes) for it in (plain, data)]
    assert (blocks[0] == blocks[1]).all(axis=2)[~finite].all()


@pytest.mark.parametrize("name", ["Q4_0", "Q4_K", "IQ4_XS"])
def test_what_a_format_can_t_hold_isn_t_hidden(name: str) -> None:
    """Its scale is infinite, which is looked for when a file is written; weights of zero would be silently wrong."""
    fmt = FORMATS[name]
    rows = WEIGHTS[:3].copy()
    rows[1] *= np.float32(1e10)
    plain = fmt.encode(rows)
    assert not np.isfinite(fmt.decode(plain, K)[1]).all()
    assert np.array_equal(Thorough().encode(rows, fmt)[1], plain[1])


def objective(x: np.ndarray, decoded: np.ndarray) -> float:
    counts = np.sqrt(np.square(x).mean() + np.square(x))
    away = x - decoded
    return float((counts * away * away).sum() + (counts * away * x).sum() ** 2 / (counts * x * x).sum())


@pytest.mark.parametrize("name", ["Q4_0", "Q8_0", "IQ4_NL"])
def test_hardly_any_scale_would_be_better(name: str) -> None:
    """Beside all scales that a float16 can have from 0.6 to 1.4 of it, and their negatives."""
    fmt: Any = FORMATS[name]
    rows = WEIGHTS[:6, :32].copy()
    data = Thorough().encode(rows, fmt)
    values = np.asarray(fmt.grid.values)
    for row, decoded, scale in zip(
        rows.astype(np.float64), fmt.decode(data, 32), fmt.grid.scales(data, 32)[0], strict=True
    ):
        first, last = (int(np.float16(abs(scale[0]) * it).view(np.uint16)) for it in (0.6, 1.4))
        every = np.arange(first, last, dtype=np.uint16).view(np.float16).astype(np.float64)
        best = np.inf
        for d in np.concatenate([every, -every]):
            chosen = values[np.abs(d * values - row[:, None]).argmin(axis=1)]
            best = min(best, objective(row, d * chosen))
        # A block whose squared error doesn't become smaller is left to the format.
        alone = objective(row, fmt.decode(fmt.encode(row[None].astype(np.float32)), 32)[0])
        assert objective(row, decoded) <= max(
            1.02 * best, alone if (data == fmt.encode(rows)).all(axis=1).any() else 0
        )


def test_importance_decides() -> None:
    fmt = FORMATS["Q4_K"]
    spiky = np.ones(K, np.float32)
    spiky[::7] = 300
    data = Thorough().encode(WEIGHTS, fmt, spiky)
    assert (
        losses(fmt, WEIGHTS, data, spiky).sum()
        < 0.8 * losses(fmt, WEIGHTS, Thorough().encode(WEIGHTS, fmt), spiky).sum()
    )
    nothing = Thorough().encode(WEIGHTS, fmt, np.zeros(K, np.float32))
    assert np.array_equal(nothing, fmt.encode(WEIGHTS, np.zeros(K, np.float32)))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("IQ3_S", "has no grid of values for single weights"),
        ("F16", "has no grid of values"),
        ("NVFP4", "the scales of NVFP4 can't be set"),
        ("I8", "only passes through"),
    ],
)
def test_what_it_can_t_do_it_says(name: str, reason: str) -> None:
    fmt = FORMATS[name]
    assert reason in (Thorough().accepts(fmt) or "")
    if fmt.spec.codec:
        with pytest.raises(FormatError, match="the encoder thorough can't encode"):
            Thorough().encode(WEIGHTS, fmt)


def test_fours_with_a_bit_less_are_left_alone() -> None:
    fmt: Any = FORMATS["IQ4_NL"]

    class Even(type(fmt.grid)):  # type: ignore[misc]  # the grid's class, whatever it is
        fours = tuple((i, i + 8, i + 16, i + 24) for i in range(8))

        def __init__(self) -> None:
            pass

    class Tied(type(fmt)):  # type: ignore[misc]  # the format's class, whatever it is
        grid = Even()

    assert Thorough().accepts(fmt) is None
    assert "depend on each other" in (Thorough().accepts(Tied()) or "")
