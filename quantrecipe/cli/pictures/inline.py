"""Figures within a page: SVG without a document of its own, in the page's colours and font.

matplotlib writes colours as numbers. A figure for a page is drawn in the colours of `THEME`, which are names in
disguise: in the SVG, `var(--ink)` and its kin take their places, so that the page decides, by day, by night and on
paper. Text stays text, which can be searched, copied and read aloud.
"""

from __future__ import annotations

import html
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from quantrecipe.cli.pictures.figure import encode_figure, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["THEME", "inline_svg", "themed_axes"]

THEME = MappingProxyType(
    {
        "ink": "#0a0b01",
        "muted": "#0a0b02",
        "line": "#0a0b03",
        "paper": "#0a0b04",
        "first": "#0a0b05",
        "second": "#0a0b06",
        "third": "#0a0b07",
        "fourth": "#0a0b08",
    }
)
"""By the name of the page's variable: the colour that stands for it while a figure is drawn."""

_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_FONT = re.compile(r"font-family: [^;\"]*")
_ID = re.compile(r'\bid="([^"]*)"')
_REFERENCE = re.compile(r'(?:xlink:)?href="#([^"]*)"|url\(#([^)]*)\)')
_SIZE = re.compile(r'<svg [^>]*?width="([\d.]+)pt" height="([\d.]+)pt"[^>]*>')


def themed_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty plot, inches wide and high, its frame in the page's colours. OutputError without matplotlib."""
    figure = new_figure(width, height)
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(THEME["line"])
    axes.tick_params(labelsize=9, color=THEME["line"], labelcolor=THEME["ink"], which="both")
    axes.xaxis.label.set_color(THEME["ink"])
    axes.yaxis.label.set_color(THEME["ink"])
    return figure, axes


def inline_svg(figure: Figure | bytes, key: str, title: str) -> str:
    """The figure, or an SVG that was made of one, as an element of a page.

    key: of this figure alone on the page: ids begin with it; title: what a reader hears instead
    """
    encoded = figure if isinstance(figure, bytes) else encode_figure(figure, "svg")
    svg = _METADATA.sub("", encoded.decode())
    svg = svg[svg.index("<svg") :]
    used = {one or other for one, other in _REFERENCE.findall(svg)}
    svg = _ID.sub(lambda it: f'id="figure-{key}-{it[1]}"' if it[1] in used else "", svg)
    svg = _REFERENCE.sub(
        lambda it: f'href="#figure-{key}-{it[1]}"' if it[1] else f"url(#figure-{key}-{it[2]})", svg
    )
    for name, colour in THEME.items():
        svg = svg.replace(colour, f"var(--{name})")
    svg = _FONT.sub("font-family: inherit", svg)
    size = _SIZE.search(svg)
    box = f"0 0 {size[1]} {size[2]}" if size else ""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" aria-labelledby="figure-{key}-title">'
    start = f'{head}<title id="figure-{key}-title">{html.escape(title)}</title>'
    body = svg[svg.index(">") + 1 :]
    # A style sheet in an SVG is one of the whole page; the page has this rule itself.
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    return start + re.sub(r"\n\s*", "\n", body)
