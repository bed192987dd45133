"""Colours: they are matplotlib's, text on them can be read, and they are in order."""

from __future__ import annotations

import re

import pytest

from quantrecipe.pictures.shades import (
    SCALES,
    change_shade,
    contrast,
    ink,
    loss_shade,
    shade_rules,
    type_shade,
)

MAPS = {"bits": "viridis", "loss": "YlOrRd", "change": "PuOr"}


@pytest.mark.parametrize(("scale", "name"), MAPS.items())
def test_scales_are_those_of_matplotlib(scale: str, name: str) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    from matplotlib.colors import to_hex

    count = len(SCALES[scale])
    found = [to_hex(matplotlib.colormaps[name](step / (count - 1))) for step in range(count)]
    assert list(SCALES[scale]) == found


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the example that just fails AA
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)  # and the one that just passes


@pytest.mark.parametrize("scale", SCALES)
def test_text_can_be_read_on_every_colour(scale: str) -> None:
    assert min(contrast(colour, ink(colour)) for colour in SCALES[scale]) >= 4.5
    rules = re.findall(rf"\.{scale}(\d+){{background:(#\w+);color:(#\w+)}}", shade_rules())
    assert rules == [(str(n), colour, ink(colour)) for n, colour in enumerate(SCALES[scale])]


def test_more_bits_are_further_up() -> None:
    steps = [type_shade(bits) for bits in (1.0, 1.5625, 2.0625, 2.625, 3.4375, 4.5, 5.5, 6.5625, 8.5)]
    assert steps == sorted(steps)
    assert len({*steps[1:]}) == len(steps) - 1
    assert steps[0] == 0
    assert type_shade(16) == type_shade(32) == len(SCALES["bits"]) - 1 > steps[-1]


def test_losses_are_between_the_least_and_the_most() -> None:
    last = len(SCALES["loss"]) - 1
    assert loss_shade(2e-4, 1e-6, 2e-4) == last
    assert loss_shade(2e-6, 2e-6, 2e-4) == 0
    assert loss_shade(1e-12, 1e-12, 2e-4) == 0  # far below what can be told apart
    assert 0 < loss_shade(2e-5, 2e-6, 2e-4) < last
    assert loss_shade(9e-5, 9e-5, 1e-4) > last // 2  # nearly alike looks nearly alike
    assert loss_shade(0.0, 0.0, 0.0) == 0


def test_only_what_stays_has_the_colour_of_the_middle() -> None:
    middle = len(SCALES["change"]) // 2
    assert change_shade(4.5, 4.5) == middle
    assert change_shade(4.5, 4.25) == middle - 1
    assert change_shade(4.25, 4.5) == middle + 1
    assert (change_shade(16, 2), change_shade(2, 16)) == (0, len(SCALES["change"]) - 1)
