"""The order of rounding: large inputs first, in whole blocks."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe import load_registry
from quantrecipe.api import InputStatistics
from quantrecipe.encoders.feedback.encoder import Feedback
from quantrecipe.encoders.feedback.order import keeps_together, kept_together, order_of

FORMATS = load_registry(plugins=False).formats


def test_large_inputs_come_first() -> None:
    diagonal = np.array([1, 5, 3, 3, 9, 2, 0, 4], np.float32)
    assert order_of(diagonal, 4, 1).tolist() == [4, 7, 5, 6, 1, 2, 3, 0]
    assert order_of(diagonal, 4, 2).tolist() == [4, 5, 6, 7, 0, 1, 2, 3]
    assert order_of(diagonal, 2, 2).tolist() == [4, 5, 0, 1, 2, 3, 6, 7]
    assert order_of(diagonal, 0, 1).tolist() == [4, 1, 7, 2, 3, 5, 0, 6]


def test_fours_stay_together_wherever_their_columns_are() -> None:
    diagonal = np.array([1, 1, 5, 5, 1, 1, 5, 5, 0, 9, 0, 0, 0, 0, 0, 0], np.float32)
    places = (0, 4, 1, 5, 2, 6, 3, 7)
    ordered = order_of(diagonal, 0, 4, places)
    assert ordered.tolist() == [2, 6, 3, 7, 8, 12, 9, 13, 0, 4, 1, 5, 10, 14, 11, 15]
    assert keeps_together(ordered, 0, 4, places)
    assert not keeps_together(ordered, 0, 4)
    assert not keeps_together(np.arange(16), 0, 4, places)
    assert not keeps_together(ordered.reshape(-1, 4)[:, [1, 0, 2, 3]].reshape(-1), 0, 4, places)


def test_equal_inputs_stay_as_they_are() -> None:
    assert order_of(np.ones(96, np.float32), 32, 8).tolist() == list(range(96))


@pytest.mark.parametrize(
    ("name", "together"),
    [("Q4_K", (256, 1)), ("Q4_0", (32, 1)), ("IQ3_S", (256, 8)), ("IQ1_M", (256, 8)), ("NVFP4", (64, 1))],
)
def test_formats_with_the_same_blocks_share_an_order(name: str, together: tuple[int, int]) -> None:
    assert kept_together(FORMATS[name]) == (*together, ())
    assert Feedback().shares(FORMATS[name]) == (*together, ())


@pytest.mark.parametrize("name", ["Q2_K", "TQ1_0"])
def test_columns_of_few_bits_stay_as_they_are(name: str) -> None:
    assert Feedback().shares(FORMATS[name]) is None
    statistics = InputStatistics(gram=np.diag(np.arange(1, 257, dtype=np.float32)), tokens=300)
    assert Feedback().prepare(statistics, fmt=FORMATS[name]).columns.tolist() == list(range(256))
    assert Feedback().prepare(statistics, fmt=FORMATS["Q3_K"]).columns.tolist() == list(range(255, -1, -1))
