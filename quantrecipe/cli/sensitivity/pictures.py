"""Pictures of a sensitivity: which tensors the output depends on, what each type loses, what each size allows."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.allocate.front import front, uniform
from quantrecipe.cli.pictures.figure import encode_figure, label, new_figure
from quantrecipe.cli.pictures.heat_map import NO_LAYER, draw_heat_map
from quantrecipe.cli.sensitivity.summary import cost_near, reference_type
from quantrecipe.sensitivity import Sensitivity, TensorSensitivity
from quantrecipe.tensor import split_name
from quantrecipe.units import binary_unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["draw_costs", "draw_front", "draw_losses"]

# Lines that a picture can hold; those that cost most.
_MOST_ROLES = 12
# 16-bit types lose next to nothing, and would flatten everything else.
_LEAST_LOSS = 1e-5
# Types that lose next to nothing: they would stretch a logarithmic scale.
_SIXTEEN_BITS = frozenset({"BF16", "F16", "F32"})
_MARKS = "os^Dv<>Ph*Xp"


def draw_costs(found: Sensitivity, kind: str) -> bytes:
    """Layer × role: what giving the tensor the reference type costs."""
    reference = reference_type(found)
    layers = sorted({layer for name in found.tensors if (layer := split_name(name)[0]) is not None})
    columns: dict[int | None, int] = {layer: number for number, layer in enumerate(layers)}
    names = [str(layer) for layer in layers]
    by_role = _by_role(found)
    if any(split_name(name)[0] is None for name in found.tensors):
        columns[None] = len(names)
        names.append(NO_LAYER)
    costs: NDArray[np.float64] = np.full((len(by_role), len(names)), np.nan)
    for row, tensors in enumerate(by_role.values()):
        for tensor in tensors:
            cost = cost_near(tensor, reference)
            if cost:
                costs[row, columns[split_name(tensor.name)[0]]] = cost
    return draw_heat_map(
        [label(role) for role in by_role],
        names,
        costs,
        title=label(f"cost of {reference}, {found.provenance.model}"),
        legend="KL divergence, nats",
        kind=kind,
    )


def draw_losses(found: Sensitivity, kind: str) -> bytes:
    """Rate and distortion: what each role loses at each size; the line joins the types that no other beats."""
    figure = new_figure(7.5, 4.6)
    axes = figure.add_subplot()
    shown = list(_by_role(found).items())[:_MOST_ROLES]
    from matplotlib import colormaps

    named: dict[str, tuple[float, float]] = {}
    for number, (role, tensors) in enumerate(shown):
        points = _mean_losses(tensors)
        if not points:  # its tensors have no type in common, or only those of 16 bits
            continue
        for type_, (bits, loss) in points.items():
            named[type_] = bits, max(loss, named.get(type_, (0.0, 0.0))[1])
        best = _best(points)
        colour = colormaps["tab20" if len(shown) > 10 else "tab10"](number)
        axes.plot(*zip(*points.values(), strict=True), ".", color=colour, markersize=3, alpha=0.5)
        axes.plot(
            *zip(*(points[type_] for type_ in best), strict=True),
            color=colour,
            marker=_MARKS[number % len(_MARKS)],
            markersize=4,
            linewidth=1,
            label=label(role),
        )
    axes.set_yscale("log")
    axes.set_xlabel("bits per weight", fontsize=9)
    axes.set_ylabel("relative squared error D", fontsize=9)
    axes.set_title(label(f"what types lose, {found.provenance.model}"), fontsize=10, loc="left")
    for type_ in _best(named):
        axes.annotate(
            type_,
            named[type_],
            textcoords="offset points",
            xytext=(2, 6),
            fontsize=6,
            rotation=50,
            color="#555555",
        )
    _finish(axes)
    if named:
        axes.legend(fontsize=7, frameon=False, ncols=2 if len(shown) > 6 else 1)
    return encode_figure(figure, kind)


def draw_front(found: Sensitivity, kind: str) -> bytes:
    """What each size allows: the best mixes, and one type for everything beside them."""
    figure = new_figure(7.5, 4.6)
    axes = figure.add_subplot()
    unit, divisor = binary_unit(max(point.nbytes for point in front(found)))
    line = [point for point in front(found) if point.cost > 0]
    axes.plot([p.nbytes / divisor for p in line], [p.cost for p in line], color="#1f77b4", label="best mixes")
    ones = {name: point for name, point in uniform(found).items() if point.cost > 0}
    best = _best({name: (point.nbytes, point.cost) for name, point in ones.items()})
    for names, colour, what in (
        ([name for name in ones if name not in best], "#efb8b8", None),
        (best, "#d62728", "one type for everything"),
    ):
        axes.plot(
            [ones[name].nbytes / divisor for name in names],
            [ones[name].cost for name in names],
            "o",
            color=colour,
            markersize=4,
            label=what,
        )
    for name in best:
        axes.annotate(
            name,
            (ones[name].nbytes / divisor, ones[name].cost),
            textcoords="offset points",
            xytext=(5, 3),
            fontsize=7,
            color="#333333",
        )
    quantized = [point for name, point in ones.items() if name not in _SIXTEEN_BITS]
    if line and quantized:
        largest = max(point.nbytes for point in quantized)
        shown = [p.cost for p in [*quantized, *line] if p.nbytes <= largest]
        axes.set_xlim(right=largest / divisor * 1.06)
        axes.set_ylim(min(shown) / 1.5, max(shown) * 2)
    axes.set_yscale("log")
    axes.set_xlabel(f"bytes of the measured tensors, {unit}", fontsize=9)
    axes.set_ylabel("expected KL divergence, nats", fontsize=9)
    axes.set_title(label(f"size and loss, {found.provenance.model}"), fontsize=10, loc="left")
    _finish(axes)
    axes.legend(fontsize=8, frameon=False)
    return encode_figure(figure, kind)


def _by_role(found: Sensitivity) -> dict[str, list[TensorSensitivity]]:
    """Tensors by role, the role that costs most first."""
    reference = reference_type(found)
    groups: dict[str, list[TensorSensitivity]] = defaultdict(list)
    for tensor in found.tensors.values():
        groups[split_name(tensor.name)[1]].append(tensor)
    costs = {role: sum(cost_near(t, reference) for t in tensors) for role, tensors in groups.items()}
    return {role: groups[role] for role in sorted(groups, key=lambda role: (-costs[role], role))}


def _mean_losses(tensors: list[TensorSensitivity]) -> dict[str, tuple[float, float]]:
    """Type → (bits per weight, mean D), of the types that all these tensors accept and that lose something."""
    points = {}
    for type_ in tensors[0].losses:
        losses = [tensor.losses[type_] for tensor in tensors if type_ in tensor.losses]
        mean = sum(loss.error for loss in losses) / len(losses)
        if len(losses) == len(tensors) and mean > _LEAST_LOSS:
            bits = 8 * sum(loss.nbytes for loss in losses) / sum(tensor.weights for tensor in tensors)
            points[type_] = bits, mean
    return points


def _best(points: dict[str, tuple[float, float]]) -> list[str]:
    """Types that no smaller one beats, the smallest first."""
    best: list[str] = []
    for type_ in sorted(points, key=lambda name: (points[name][0], points[name][1])):
        if not best or points[type_][1] < points[best[-1]][1]:
            best.append(type_)
    return best


def _finish(axes: object) -> None:
    axes.grid(True, which="major", linewidth=0.4, color="#dddddd")  # type: ignore[attr-defined]  # matplotlib's Axes
    axes.spines[["top", "right"]].set_visible(False)  # type: ignore[attr-defined]  # the same
    axes.tick_params(labelsize=8)  # type: ignore[attr-defined]  # the same
