"""A picture of an importance matrix: mean square of the inputs, a field for each layer and role.

The colours are logarithmic. Roles that see the same inputs share a row; what the matrix doesn't have is grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.cli.imatrix.statistics_table import same_inputs
from quantrecipe.cli.pictures.figure import label
from quantrecipe.cli.pictures.heat_map import NO_LAYER, draw_heat_map
from quantrecipe.importance.statistics import TensorStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["draw"]


def draw(tensors: Sequence[TensorStatistics], *, title: str, kind: str) -> bytes:
    """A heat map as a file of this kind, "svg" or "png". OutputError where matplotlib isn't installed."""
    labels, columns, energy = _grid(tensors)
    return draw_heat_map(
        labels,
        columns,
        energy,
        title=label(f"activation energy, {title}"),
        legend="mean square of the inputs",
        kind=kind,
    )


def _grid(tensors: Sequence[TensorStatistics]) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Labels of the rows and columns, and the energy; NaN where there is none. No layer is the last column."""
    layers = sorted({item.layer for item in tensors if item.layer is not None})
    columns: dict[int | None, int] = {layer: number for number, layer in enumerate(layers)}
    names = [str(layer) for layer in layers]
    if any(item.layer is None for item in tensors):
        columns[None] = len(names)
        names.append(NO_LAYER)
    groups = same_inputs(tensors)
    energy = np.full((len(groups), len(names)), np.nan)
    for row, (_, items) in enumerate(groups):
        for item in items:
            if item.mean:
                energy[row, columns[item.layer]] = item.mean
    return [label(", ".join(roles)) for roles, _ in groups], names, energy
