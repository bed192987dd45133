"""Size against KL divergence of several files, so that what a byte buys can be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quantrecipe.cli.pictures.figure import encode_figure, label, new_figure
from quantrecipe.units import binary_unit

__all__ = ["SizePoint", "draw_sizes"]

# A shape for each text; the seventh text begins again.
_TEXT_MARKERS = ("v", "^", "s", "D", "<", ">")


@dataclass(frozen=True, kw_only=True, slots=True)
class SizePoint:
    """A file in the picture.

    kld, error: the mean over all texts, and its standard error
    texts:      the mean over each text, by its name
    """

    label: str
    nbytes: int
    kld: float
    error: float
    texts: Mapping[str, float]


def draw_sizes(points: Sequence[SizePoint], *, title: str, kind: str, joined: bool = False) -> bytes:
    """A point with its standard error for each file, as a file of this kind, "svg" or "png".

    With several texts, a small mark for each stands beside the mean of all.
    joined: with a line from size to size, where the files are of one kind
    """
    points = sorted(points, key=lambda it: it.nbytes)
    figure = new_figure(7.5, 5.0)
    axes = figure.add_subplot()
    unit_name, unit = binary_unit(points[-1].nbytes)
    sizes = [it.nbytes / unit for it in points]
    klds = [it.kld for it in points]
    texts = list(points[0].texts) if len(points[0].texts) > 1 else []
    for number, name in enumerate(texts):
        values = [it.texts[name] for it in points]
        marker = _TEXT_MARKERS[number % len(_TEXT_MARKERS)]
        axes.scatter(sizes, values, s=14, marker=marker, color="#999999", label=label(name), zorder=2)
    axes.errorbar(
        sizes,
        klds,
        yerr=[it.error for it in points],
        fmt="o-" if joined else "o",
        markersize=5,
        linewidth=0.8,
        capsize=2,
        color="#1f5fa8",
        zorder=3,
        label="all texts" if texts else None,
    )
    for it, x, y in zip(points, sizes, klds, strict=True):
        axes.annotate(label(it.label), (x, y), xytext=(6, 5), textcoords="offset points", fontsize=8)
    if min(klds) > 0:
        axes.set_yscale("log")
    axes.margins(x=0.14, y=0.14)
    axes.set_xlabel(f"size, {unit_name}", fontsize=9)
    axes.set_ylabel("mean KL divergence (lower is better)", fontsize=9)
    axes.set_title(label(title), fontsize=10, loc="left")
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if texts:
        axes.legend(fontsize=8, frameon=False)
    return encode_figure(figure, kind)
