"""Groups whose best range lies far from weights that count for nothing: ggml's rounding there is its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quantrecipe.api import QuantFormat
from quantrecipe.formats import ALL

RECORDED = np.load(Path(__file__).parents[2] / "data" / "golden" / "far.npz")
FORMATS = [fmt for fmt in ALL if fmt.spec.name in RECORDED.files]


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.spec.name)
def test_integers_beyond_2_to_the_22_are_those_of_ggml(fmt: QuantFormat) -> None:
    data = fmt.encode(RECORDED["x"], RECORDED["w"])
    wrong = np.flatnonzero((data != RECORDED[fmt.spec.name]).any(axis=1))
    assert wrong.size == 0, f"rows {wrong.tolist()}"


def test_all_that_search_a_scale_and_a_minimum_are_recorded() -> None:
    assert {fmt.spec.name for fmt in FORMATS} == set(RECORDED.files) - {"x", "w"}
