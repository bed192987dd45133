"""Treemaps: rectangles are as large as what they stand for, fill the room, and are near to squares."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.cli.pictures.treemap import Part, Place, draw_treemap, squarified


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=40), st.floats(0.5, 9), st.floats(0.5, 9))
def test_areas_are_sizes_and_nothing_overlaps(sizes: list[float], width: float, height: float) -> None:
    sizes.sort(reverse=True)
    places = squarified(sizes, Place(1.0, 2.0, width, height))
    area = width * height
    for size, place in zip(sizes, places, strict=True):
        assert place.width * place.height == pytest.approx(area * size / sum(sizes), rel=1e-6)
        assert place.x >= 1 - 1e-9
        assert place.y >= 2 - 1e-9
        assert place.x + place.width <= 1 + width + 1e-6
        assert place.y + place.height <= 2 + height + 1e-6
    for one, other in combinations(places, 2):
        across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
        down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
        assert min(across, down) <= 1e-6


def test_the_example_of_the_paper() -> None:
    """Bruls, Huizing and van Wijk (2000), figure 4: 6, 6, 4, 3, 2, 2, 1 in a room of 6 × 4."""
    places = squarified([6, 6, 4, 3, 2, 2, 1], Place(0, 0, 6, 4))
    assert [(round(p.width, 2), round(p.height, 2)) for p in places] == [
        (3, 2),
        (3, 2),
        (1.71, 2.33),
        (1.29, 2.33),
        (1.2, 1.67),
        (1.2, 1.67),
        (0.6, 1.67),
    ]


def test_names_stand_where_there_is_room() -> None:
    pytest.importorskip("matplotlib")
    parts = [
        Part(lines=("ffn_down", "9 GiB"), nbytes=900, bits=4.5),
        Part(lines=("a_name_far_too_long_for_so_small_a_place",), nbytes=5, bits=8.5),
        Part(lines=("nothing",), nbytes=0, bits=0.0),
    ]
    axes = draw_treemap(parts).axes[0]
    assert [text.get_text() for text in axes.texts] == ["ffn_down\n9 GiB"]
    assert len(axes.patches) == 2


def test_what_is_thinner_than_a_line_is_left_out() -> None:
    pytest.importorskip("matplotlib")
    parts = [Part(lines=(str(size),), nbytes=size, bits=4.5) for size in (10**18, 1)]
    assert len(draw_treemap(parts).axes[0].patches) == 1
