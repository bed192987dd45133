"""A picture of an importance matrix: mean square of the inputs, a field for each layer and role.

The colours are logarithmic. Roles that see the same inputs share a row; what the matrix doesn't have is grey.
The same matrix gives the same bytes: no time and no random names are in the file.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.cli.errors import printable
from quantrecipe.cli.imatrix_table import same_inputs
from quantrecipe.errors import OutputError
from quantrecipe.importance import TensorStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["draw"]

_FIELD = 0.24  # inches
_LARGEST = 80.0  # inches; fields get smaller beyond
_LAYERS_NAMED = 24
_FEW_DECADES = 2.5  # of energy: below, the scale has numbers between the powers of ten
_LONGEST_LABEL = 48
_ABSENT = "#eeeeee"


def draw(tensors: Sequence[TensorStatistics], *, title: str, kind: str) -> bytes:
    """A heat map as a file of this kind, "svg" or "png". OutputError where matplotlib isn't installed."""
    try:
        import matplotlib
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise OutputError("pictures need matplotlib", "pip install 'quantrecipe[plots]'") from error

    labels, columns, energy = _grid(tensors)
    rows, cols = energy.shape
    low, high = _limits(energy)
    size = (min(_LARGEST, max(5.5, 3.4 + _FIELD * cols)), min(_LARGEST, 1.5 + _FIELD * rows))
    room = ConstrainedLayoutEngine(w_pad=0.1)  # for viewers whose font is wider
    figure = Figure(figsize=size, layout=room)
    axes = figure.add_subplot()
    mesh = axes.pcolormesh(
        np.arange(cols + 1) - 0.5,
        np.arange(rows + 1) - 0.5,
        np.ma.masked_invalid(energy),
        norm=LogNorm(low, high),
        cmap=matplotlib.colormaps["viridis"].with_extremes(bad=_ABSENT),
        edgecolors="white",
        linewidth=0.4,
    )
    axes.invert_yaxis()
    axes.set_yticks(range(rows), labels)
    step = -(-cols // _LAYERS_NAMED)
    named = [number for number, name in enumerate(columns) if name == "–" or number % step == 0]
    axes.set_xticks(named, [columns[number] for number in named])
    axes.tick_params(length=0, labelsize=8)
    axes.set_frame_on(False)
    axes.set_xlabel("layer", fontsize=9)
    axes.set_title(_label(f"activation energy, {title}"), fontsize=10, loc="left")
    bar = figure.colorbar(mesh, ax=axes, aspect=12, pad=0.02)
    bar.set_label("mean square of the inputs", fontsize=8)
    ticks = _ticks(low, high)
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=8)
    file = io.BytesIO()
    # Text stays text in an SVG; a fixed salt, and no date or version, for the same bytes every time.
    with (
        matplotlib.rc_context({"svg.hashsalt": "quantrecipe", "svg.fonttype": "none"}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # names in scripts that the font lacks
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, dpi=160, metadata=metadata)
    return file.getvalue()


def _grid(tensors: Sequence[TensorStatistics]) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Labels of the rows and columns, and the energy; NaN where there is none. No layer is the last column."""
    layers = sorted({item.layer for item in tensors if item.layer is not None})
    columns: dict[int | None, int] = {layer: number for number, layer in enumerate(layers)}
    names = [str(layer) for layer in layers]
    if any(item.layer is None for item in tensors):
        columns[None] = len(names)
        names.append("–")
    groups = same_inputs(tensors)
    energy = np.full((len(groups), len(names)), np.nan)
    for row, (_, items) in enumerate(groups):
        for item in items:
            if item.mean:
                energy[row, columns[item.layer]] = item.mean
    return [_label(", ".join(roles)) for roles, _ in groups], names, energy


def _limits(energy: NDArray[np.float64]) -> tuple[float, float]:
    known = energy[np.isfinite(energy)]
    if not known.size:
        return 0.5, 2.0
    low, high = float(known.min()), float(known.max())
    return (low, high) if high > low * 1.01 else (low / 1.5, high * 1.5)


def _ticks(low: float, high: float) -> list[float]:
    """Powers of ten, and where there are few of them, numbers between."""
    few = math.log10(high / low) < _FEW_DECADES
    steps = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high / low < 10 else (1.0, 2.0, 5.0) if few else (1.0,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [tick for decade in decades for step in steps if low <= (tick := step * 10.0**decade) <= high]


def _label(text: str) -> str:
    """On one line, and no formula: matplotlib takes what stands between dollar signs for one."""
    text = printable(text)
    text = text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"
    return text.replace("$", r"\$")
