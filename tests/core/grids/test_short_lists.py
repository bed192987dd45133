"""Where float32 might tell otherwise, whole lists of neighbours are looked through instead of short ones."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.core.grids import iq2_search, iq3_search
from quantrecipe.core.grids.iq3_neighbours import CODES, ROOM
from quantrecipe.core.grids.points_of_eight import EIGHT
from quantrecipe.core.lanes import LANES, WORKSPACE, X

NEAR = np.float32(2**-18)


def whole_of_four(x: float, scale: float) -> bool:
    """Whether a four with this weight, in scales, needs its whole list."""
    v, s = np.full(96, 3 * scale, np.float32), np.zeros(4 * ROOM, np.float32)
    v[1] = x * scale
    s[:ROOM], s[ROOM : 2 * ROOM] = 1 / scale, scale
    rounded = np.zeros(iq3_search.FOURS * ROOM, np.int32)
    iq3_search._round(24)(v, s, rounded)
    assert ((rounded[:24] >= CODES) == (rounded[0] >= CODES)).all()
    return bool(rounded[0] >= CODES)


def whole_of_eight(x: float, scale: float) -> bool:
    s, tries = np.full(WORKSPACE, 3 * scale, np.float32), np.full(16, 1 / scale, np.float32)
    s[X + LANES] = x * scale
    limits = np.empty(LANES, np.int32)
    iq2_search._find_limits(EIGHT)(s, np.full(LANES, scale, np.float32), np.float32(1), limits)
    first = np.zeros((1 << 16) + 1, np.int32)
    rounded, codes, strangers = (np.zeros(17, np.int32) for _ in range(3))
    _, lists = iq2_search._round(16, 13)(s, 0, limits[0], tries, first, rounded, 0, codes, strangers)
    return bool(lists == iq2_search.CODES)


@pytest.mark.parametrize("scale", [1.0, 2.0**-60])
def test_a_weight_between_two_integers_may_go_either_way(scale: float) -> None:
    for middle in (2.0, 4.0):
        for x in (middle, middle * (1 - NEAR), middle * (1 + NEAR)):
            assert whole_of_four(x, scale)
            assert whole_of_eight(x, scale)
    for x in (0.0, 1.0, 1.999, 2.001, 3.0, 3.999, 4.001, 5.0):
        assert not whole_of_four(x, scale)
        assert not whole_of_eight(x, scale)


def test_a_weight_beyond_the_integers_cannot() -> None:
    for x in (-100.0, -2.0, -1.0):
        assert not whole_of_four(x, 1.0)
        assert not whole_of_eight(x, 1.0)
    assert not whole_of_four(16.0, 1.0)
    assert not whole_of_eight(6.0, 1.0)


def test_scales_that_float32_is_not_exact_for() -> None:
    for scale in (2.0**-110, 2.0**110):
        assert whole_of_four(1.0, scale)
        assert whole_of_eight(1.0, scale)


def test_weights_that_ggml_rounds_to_anything() -> None:
    """From 2^22 on, the bits that it takes for an integer are others."""
    sizes = np.random.default_rng(3).uniform(2.0**24, 2.0**26, 40)
    assert any(whole_of_four(-x, 1.0) for x in sizes)
    assert all(whole_of_eight(-x, 1.0) for x in sizes)
