"""The statistics of `llama-imatrix --show-statistics`, the same numbers: in float32, in its order of additions.

Of one tensor, over the mean squares of its inputs, without the experts that calibration never reached:

    total, lowest, highest, mean, deviation   the mean squares themselves
    active      share of the inputs above 1e-5
    entropy     bits; how evenly the energy is spread over the inputs
    evenness    entropy over the most that it could be
    outliers    share of the inputs more than one deviation above the mean ("ZD")
    similarity  cosine of the sums with those of the same tensor one layer before ("CosSim")

A float32 sum of a million values is a little off, there as here; that the numbers agree is worth more.

Source: llama.cpp, tools/imatrix/imatrix.cpp: compute_statistics, compute_cossim, show_statistics.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.importance.matrix import Importance, ImportanceEntry
from quantrecipe.tensor import split_name

if TYPE_CHECKING:
    from quantrecipe.importance.matrix import FloatArray

__all__ = ["LayerStatistics", "TensorStatistics", "by_layer", "statistics"]

_ACTIVE = np.float32(1e-5)
_PREVIOUS = re.compile(r"blk\.([0-9]{1,9})\.")


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorStatistics:
    """Statistics of one tensor, as the module explains them. A number is None where it can't be computed.

    matrices, seen: how many vectors of importance there are, and how many of them calibration reached
    fewest, most:   tokens that those saw; calls, in a .dat file
    inputs:         how many mean squares the numbers are of
    """

    name: str
    layer: int | None
    role: str
    matrices: int
    seen: int
    fewest: int
    most: int
    inputs: int
    total: float | None = None
    lowest: float | None = None
    highest: float | None = None
    mean: float | None = None
    deviation: float | None = None
    active: float | None = None
    entropy: float | None = None
    evenness: float | None = None
    outliers: float | None = None
    similarity: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerStatistics:
    """Means over a layer's tensors, each weighted by its number of inputs. A missing similarity counts as 0."""

    layer: int
    total: float
    outliers: float
    similarity: float


def statistics(matrix: Importance) -> tuple[TensorStatistics, ...]:
    """Compute the statistics of every tensor: first of those outside the layers, then by layer and name."""
    found = (_tensor(entry, matrix.entries) for entry in matrix.entries.values())
    return tuple(sorted(found, key=lambda item: (-1 if item.layer is None else item.layer, item.name)))


def by_layer(tensors: Iterable[TensorStatistics]) -> tuple[LayerStatistics, ...]:
    """Compute the means of each layer, and return them in the order of the layers."""
    layers: dict[int, list[TensorStatistics]] = {}
    for item in sorted(tensors, key=lambda item: (item.role, -(item.total or 0))):  # its order of additions
        if item.layer is not None and item.total is not None:
            layers.setdefault(item.layer, []).append(item)
    return tuple(_layer(layer, layers[layer]) for layer in sorted(layers))


def _tensor(entry: ImportanceEntry, entries: Mapping[str, ImportanceEntry]) -> TensorStatistics:
    layer, role = split_name(entry.name)
    seen = np.asarray(entry.counts) > 0
    if entry.layout == "dat":  # without calls, the values are as they are
        seen[:] = True
    values = entry.values[seen].reshape(-1)
    numbers = _numbers(values) if values.size else {}
    return TensorStatistics(
        name=entry.name,
        layer=layer,
        role=role,
        matrices=len(entry.counts),
        seen=int(seen.sum()),
        fewest=min((count for count, reached in zip(entry.counts, seen, strict=True) if reached), default=0),
        most=max(entry.counts),
        inputs=values.size,
        similarity=_similarity(entry, entries) if numbers else None,
        **numbers,
    )


def _numbers(values: FloatArray) -> dict[str, float | None]:
    size = np.float32(values.size)
    with np.errstate(over="ignore", invalid="ignore"):  # huge activations: told as None
        total = _sum(values)
        mean = total / size
        variance = _sum(values * values) / size - mean * mean
        deviation = np.sqrt(np.maximum(np.float32(0), variance))
        shares = values / total if total > 0 else values[:0]
        shares = shares[shares > 0]
        entropy = _sum(shares * np.log2(shares)) * np.float32(-1)
        outliers = int(((values - mean) / deviation > 1).sum()) if deviation > 0 else 0
    most = np.log2(np.float32(size))
    return {
        "total": _number(total),
        "lowest": _number(values.min()),
        "highest": _number(values.max()),
        "mean": _number(mean),
        "deviation": _number(deviation),
        "active": _number(np.float32(1) - np.float32((values <= _ACTIVE).sum()) / size),
        "entropy": _number(entropy),
        "evenness": _number(entropy / most) if most > 0 else None,
        "outliers": _number(np.float32(outliers) / size),
    }


def _similarity(entry: ImportanceEntry, entries: Mapping[str, ImportanceEntry]) -> float | None:
    match = _PREVIOUS.search(entry.name)
    if match is None:
        return None
    name = f"{entry.name[: match.start(1)]}{int(match[1]) - 1}{entry.name[match.end(1) :]}"
    before = entries.get(name)
    if before is None or before.size != entry.size:
        return None
    a, b = entry.sums.reshape(-1), before.sums.reshape(-1)
    with np.errstate(all="ignore"):
        return _number(_sum(a * b) / (np.sqrt(_sum(a * a)) * np.sqrt(_sum(b * b))))


def _sum(values: FloatArray) -> np.float32:
    """One after the other: NumPy's own sum adds in another order, and rounds otherwise."""
    return np.float32(np.add.accumulate(values)[-1]) if values.size else np.float32(0)


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _layer(layer: int, tensors: Sequence[TensorStatistics]) -> LayerStatistics:
    size = np.float32(sum(item.inputs for item in tensors))

    def mean(numbers: Iterable[float | None]) -> float:
        weighted = [
            np.float32(item.inputs) * np.float32(number or 0)
            for item, number in zip(tensors, numbers, strict=True)
        ]
        return float(_sum(np.asarray(weighted, np.float32)) / size)

    return LayerStatistics(
        layer=layer,
        total=mean(item.total for item in tensors),
        outliers=mean(item.outliers for item in tensors),
        similarity=mean(item.similarity for item in tensors),
    )
