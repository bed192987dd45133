"""Shades: which colour a number of bits, a loss or a change of bits has, in figures and in tables alike.

Each scale is a row of colours, sampled evenly from one of matplotlib's colour maps that people with any colour vision
can follow. They stand here as they are, so that a table needn't load matplotlib; a test compares them. `ink` says in
which colour text on one of them can be read: its contrast is at least 4.5 to 1, as WCAG 2 asks for.
"""

from __future__ import annotations

import math
from types import MappingProxyType

__all__ = [
    "SCALES",
    "change_shade",
    "contrast",
    "ink",
    "loss_shade",
    "shade_class",
    "shade_rules",
    "type_shade",
]

SCALES = MappingProxyType(
    {
        # matplotlib: viridis. Few bits are dark.
        "bits": (
            "#440154", "#471164", "#482071", "#472e7c", "#443b84", "#3f4889", "#3a548c", "#34608d",
            "#2f6c8e", "#2a768e", "#26818e", "#228b8d", "#1f958b", "#1fa088", "#24aa83", "#2fb47c",
            "#42be71", "#58c765", "#70cf57", "#8bd646", "#a8db34", "#c5e021", "#e2e418", "#fde725",
        ),
        # matplotlib: YlOrRd. Much loss is dark.
        "loss": (
            "#ffffcc", "#fff8ba", "#fff0a8", "#ffe895", "#fee084", "#fed572", "#fec561", "#feb44e",
            "#fea546", "#fd953f", "#fd8038", "#fc6430", "#fb4b29", "#f03523", "#e61f1d", "#d6111f",
            "#c70723", "#b20026", "#990026", "#800026",
        ),
        # matplotlib: PuOr. Fewer bits are brown, more are violet, the middle is no change.
        "change": (
            "#7f3b08", "#a04d07", "#be630a", "#db7d12", "#ef9e3c", "#fdbd6e", "#fed7a2", "#fbe9cf",
            "#f6f6f7", "#e3e4ef", "#cecde4", "#b6b0d4", "#988dbe", "#7967a6", "#5d3790", "#44176f", "#2d004b",
        ),
    }
)  # fmt: skip
"""Colours by what they stand for, the first for the least."""

_FEWEST_BITS, _MOST_BITS = 1.5, 9.0  # about those of IQ1_S and Q8_0
_DECADES = 3.0  # of losses, at most
_WIDEST_CHANGE = 4.0  # bits per weight, from which on a change has the strongest colour
_DARK, _LIGHT = "#000000", "#ffffff"


def type_shade(bits: float) -> int:
    """The place of bits per weight on the scale "bits". Floats, of 16 bits and more, share the last colour."""
    return _step("bits", (bits - _FEWEST_BITS) / (_MOST_BITS - _FEWEST_BITS))


def loss_shade(loss: float, least: float, most: float) -> int:
    """The place of a loss on the scale "loss", logarithmic between the least and the most that there are.

    What is less than a thousandth of the most is as light as the least.
    """
    if loss <= 0 or most <= 0:
        return 0
    decades = min(_DECADES, max(1.0, math.log10(most / least))) if 0 < least < most else 1.0
    return _step("loss", 1 + math.log10(loss / most) / decades)


def change_shade(before: float, after: float) -> int:
    """The place of a change of bits per weight on the scale "change"; the middle is kept for no change at all."""
    middle, change = len(SCALES["change"]) // 2, after - before
    if not change:
        return middle
    strength = max(1, round(middle * min(1.0, abs(change) / _WIDEST_CHANGE)))
    return middle + (strength if change > 0 else -strength)


def shade_class(scale: str, step: int) -> str:
    """The class that an element of this colour has in HTML: ("bits", 7) → "bits7"."""
    return f"{scale}{step}"


def shade_rules() -> str:
    """CSS for all classes."""
    return "\n".join(
        f".{shade_class(scale, step)}{{background:{colour};color:{ink(colour)}}}"
        for scale, colours in SCALES.items()
        for step, colour in enumerate(colours)
    )


def ink(colour: str) -> str:
    """Black or white: whichever is easier to read on this colour, "#rrggbb"."""
    return max((_DARK, _LIGHT), key=lambda text: contrast(colour, text))


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, from 1 to 21, as WCAG 2 computes it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _step(scale: str, place: float) -> int:
    last = len(SCALES[scale]) - 1
    return round(last * min(1.0, max(0.0, place)))
