"""A heat map of layers and roles: a field for each, its colour on a logarithmic scale; grey where nothing is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.cli.pictures.figure import encode_figure, new_figure

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NO_LAYER", "draw_heat_map"]

NO_LAYER = "–"
"""The column of what is in no layer."""

_FIELD = 0.24  # inches
_LARGEST = 80.0  # inches; fields get smaller beyond
# Numbers below the columns: more would touch each other.
_LAYERS_NAMED = 24
_FEW_DECADES = 2.5  # below, the scale has numbers between the powers of ten
_ABSENT = "#eeeeee"


def draw_heat_map(
    labels: Sequence[str],
    columns: Sequence[str],
    values: NDArray[np.float64],
    *,
    title: str,
    legend: str,
    kind: str,
) -> bytes:
    """values: float64 (labels, columns), NaN where there is none → a file of this kind, "svg" or "png"."""
    rows, cols = values.shape
    figure = new_figure(min(_LARGEST, max(5.5, 3.4 + _FIELD * cols)), min(_LARGEST, 1.5 + _FIELD * rows))
    import matplotlib
    from matplotlib.colors import LogNorm

    low, high = _limits(values)
    axes = figure.add_subplot()
    mesh = axes.pcolormesh(
        np.arange(cols + 1) - 0.5,
        np.arange(rows + 1) - 0.5,
        np.ma.masked_invalid(values),
        norm=LogNorm(low, high),
        cmap=matplotlib.colormaps["viridis"].with_extremes(bad=_ABSENT),
        edgecolors="white",
        linewidth=0.4,
    )
    axes.invert_yaxis()
    axes.set_yticks(range(rows), labels)
    step = -(-cols // _LAYERS_NAMED)
    named = [number for number, name in enumerate(columns) if name == NO_LAYER or number % step == 0]
    axes.set_xticks(named, [columns[number] for number in named])
    axes.tick_params(length=0, labelsize=8)
    axes.set_frame_on(False)
    axes.set_xlabel("layer", fontsize=9)
    axes.set_title(title, fontsize=10, loc="left")
    bar = figure.colorbar(mesh, ax=axes, aspect=12, pad=0.02)
    bar.set_label(legend, fontsize=8)
    ticks = _ticks(low, high)
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=8)
    return encode_figure(figure, kind)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    known = values[np.isfinite(values) & (values > 0)]
    if not known.size:
        return 0.5, 2.0
    low, high = float(known.min()), float(known.max())
    return (low, high) if high > low * 1.01 else (low / 1.5, high * 1.5)


def _ticks(low: float, high: float) -> list[float]:
    """The powers of ten on the scale; where there are few of them, also numbers between."""
    few = math.log10(high / low) < _FEW_DECADES
    steps = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high / low < 10 else (1.0, 2.0, 5.0) if few else (1.0,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [tick for decade in decades for step in steps if low <= (tick := step * 10.0**decade) <= high]
