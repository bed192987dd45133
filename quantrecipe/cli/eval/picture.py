"""A picture of several files: size against KL divergence, so that what a byte buys can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quantrecipe.cli.eval.candidates import Candidate
from quantrecipe.cli.eval.figures import names_of
from quantrecipe.cli.pictures.figure import LONGEST_LABEL, encode_figure, label, new_figure
from quantrecipe.cli.tables import shorten
from quantrecipe.units import binary_unit

if TYPE_CHECKING:
    from quantrecipe.evaluate import Reference

__all__ = ["draw"]

# A shape for each text; the seventh text begins again.
_TEXT_MARKERS = ("v", "^", "s", "D", "<", ">")


def draw(candidates: Sequence[Candidate], reference: Reference, *, kind: str) -> bytes:
    """A point with its standard error for each file, as a file of this kind, "svg" or "png".

    With several texts, a small mark for each stands beside the mean of all.
    """
    figure = new_figure(7.5, 5.0)
    axes = figure.add_subplot()
    unit_name, unit = binary_unit(max(candidate.nbytes for candidate in candidates))
    points = sorted(candidates, key=lambda c: c.nbytes)
    sizes = [candidate.nbytes / unit for candidate in points]
    means = [candidate.all.kld_mean for candidate in points]
    errors = [candidate.all.kld_mean_error for candidate in points]
    texts = [text.name for text in reference.texts] if len(reference.texts) > 1 else []
    for number, name in enumerate(texts):
        values = [candidate.texts[name].kld_mean for candidate in points]
        marker = _TEXT_MARKERS[number % len(_TEXT_MARKERS)]
        axes.scatter(sizes, values, s=14, marker=marker, color="#999999", label=label(name), zorder=2)
    axes.errorbar(
        sizes,
        means,
        yerr=errors,
        fmt="o",
        markersize=5,
        capsize=2,
        color="#1f5fa8",
        zorder=3,
        label="all" if texts else None,
    )
    names = [name.removesuffix(".gguf") for name in names_of(points)]
    for name, x, y in zip(shorten(names, LONGEST_LABEL) or names, sizes, means, strict=True):
        axes.annotate(label(name), (x, y), xytext=(6, 5), textcoords="offset points", fontsize=8)
    if min(means) > 0:
        axes.set_yscale("log")
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel(f"size, {unit_name}", fontsize=9)
    axes.set_ylabel("mean KL divergence from the reference", fontsize=9)
    axes.set_title(label(f"against {reference.model}"), fontsize=10, loc="left")
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if texts:
        axes.legend(fontsize=8, frameon=False)
    return encode_figure(figure, kind)
