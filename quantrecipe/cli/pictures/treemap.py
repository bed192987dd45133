"""A treemap: rectangles whose areas are sizes, the largest first, each near to a square.

The places are those of a squarified treemap (Bruls, Huizing and van Wijk, 2000): rows of rectangles are laid along the
shorter side of what is left, and a row ends where one more would make its rectangles narrower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantrecipe.cli.pictures.figure import label
from quantrecipe.cli.pictures.inline import THEME, themed_axes
from quantrecipe.pictures.shades import SCALES, ink, type_shade

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Part", "Place", "draw_treemap", "squarified"]

_WIDTH, _HEIGHT = 4.9, 3.1  # inches: on a telephone it has two thirds of that
_POINTS = 72.0  # in an inch
_FONT = 7.5  # points
_LEAST = 1e-6
"""Share of the whole below which a rectangle is left out: it would be thinner than a line."""
_LETTER = 0.62  # of the font's size: how wide a letter is


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A rectangle: what is written in it, its size, and the bits per weight that it is coloured by."""

    lines: tuple[str, ...]
    nbytes: int
    bits: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rectangle lies."""

    x: float
    y: float
    width: float
    height: float


def draw_treemap(parts: Sequence[Part]) -> Figure:
    """Draw the parts, of which at least one has a size. OutputError where matplotlib isn't installed."""
    figure, axes = themed_axes(_WIDTH, _HEIGHT)
    axes.set_axis_off()
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(_HEIGHT, 0)
    from matplotlib.patches import Rectangle

    total = sum(part.nbytes for part in parts)
    shown = sorted((part for part in parts if part.nbytes > _LEAST * total), key=lambda part: -part.nbytes)
    places = squarified([part.nbytes for part in shown], Place(0, 0, _WIDTH, _HEIGHT))
    for part, place in zip(shown, places, strict=True):
        colour = SCALES["bits"][type_shade(part.bits)]
        axes.add_patch(
            Rectangle(
                (place.x, place.y),
                place.width,
                place.height,
                facecolor=colour,
                edgecolor=THEME["paper"],
                linewidth=1.2,
            )
        )
        if text := "\n".join(map(label, _fitting(part.lines, place))):
            middle = place.x + place.width / 2, place.y + place.height / 2
            axes.text(*middle, text, color=ink(colour), fontsize=_FONT, ha="center", va="center")
    return figure


def _fitting(lines: Sequence[str], place: Place) -> Sequence[str]:
    """As many of the lines as the rectangle has room for; none where the first is too wide."""
    fit = int(place.height * _POINTS / (1.35 * _FONT))
    wide = [line for line in lines[:fit] if len(line) * _LETTER * _FONT > place.width * _POINTS]
    return () if wide and wide[0] == lines[0] else [line for line in lines[:fit] if line not in wide]


def squarified(sizes: Sequence[float], room: Place) -> list[Place]:
    """A place for each size, which are positive and descending; together they fill the room."""
    scale = room.width * room.height / sum(sizes) if sizes else 1.0
    places: list[Place] = []
    areas = [size * scale for size in sizes]
    while areas:
        side = min(room.width, room.height)
        count = 1
        while count < len(areas) and _narrowest(areas[: count + 1], side) <= _narrowest(areas[:count], side):
            count += 1
        row, areas = areas[:count], areas[count:]
        places += _along(row, room)
        thick = sum(row) / side
        room = (
            Place(room.x + thick, room.y, room.width - thick, room.height)
            if room.width >= room.height
            else Place(room.x, room.y + thick, room.width, room.height - thick)
        )
    return places


def _along(row: Sequence[float], room: Place) -> Iterator[Place]:
    """The places of a row along the shorter side of the room."""
    upright = room.width >= room.height
    thick = sum(row) / min(room.width, room.height)
    at = room.y if upright else room.x
    for area in row:
        long = area / thick
        yield Place(room.x, at, thick, long) if upright else Place(at, room.y, long, thick)
        at += long


def _narrowest(row: Sequence[float], side: float) -> float:
    """How much longer than wide the worst rectangle of a row is."""
    thick = sum(row) / side
    return max(max(area / thick**2, thick**2 / area) for area in row)
