"""front: the best that each size allows, from the smallest to the largest: what a budget can buy.

Of all ways to give types to tensors, those that no other beats in size and in cost, as far as they are on the convex
hull: each step changes the tensor whose next type buys most per byte. Budgets that lie between two steps can do a
little better by solving the knapsack; the curve is the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from quantrecipe.sensitivity.sensitivity import Sensitivity, TensorSensitivity

__all__ = ["Point", "front", "uniform"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """The bytes of a mix, and what it costs in nats."""

    nbytes: int
    cost: float


def front(found: Sensitivity, types: Collection[str] | None = None) -> list[Point]:
    """Points in the order of size, beginning with the smallest types everywhere. `types` limits the choice."""
    hulls = {name: _hull(tensor, types) for name, tensor in found.tensors.items()}
    hulls = {name: hull for name, hull in hulls.items() if hull}
    nbytes = sum(hull[0].nbytes for hull in hulls.values())
    cost = sum(hull[0].cost for hull in hulls.values())
    points = [Point(nbytes=nbytes, cost=cost)]
    steps = [_step(name, hull, 1) for name, hull in sorted(hulls.items()) if len(hull) > 1]
    heapq.heapify(steps)
    while steps:
        _, name, place = heapq.heappop(steps)
        hull = hulls[name]
        nbytes += hull[place].nbytes - hull[place - 1].nbytes
        cost += hull[place].cost - hull[place - 1].cost
        points.append(Point(nbytes=nbytes, cost=max(cost, 0.0)))
        if place + 1 < len(hull):
            heapq.heappush(steps, _step(name, hull, place + 1))
    return points


def uniform(found: Sensitivity) -> Mapping[str, Point]:
    """Type → what it comes to when every tensor has it; types that not all tensors accept are left out."""
    points = {}
    for type_ in found.types:
        losses = [tensor.losses.get(type_) for tensor in found.tensors.values()]
        if any(loss is None for loss in losses):
            continue
        cost = sum(tensor.cost(type_) or 0.0 for tensor in found.tensors.values())
        points[type_] = Point(nbytes=sum(loss.nbytes for loss in losses if loss), cost=cost)
    return points


def _step(name: str, hull: list[Point], place: int) -> tuple[float, str, int]:
    """What a step gains for each byte, negative, so that the best comes first."""
    gain = hull[place - 1].cost - hull[place].cost
    return -gain / (hull[place].nbytes - hull[place - 1].nbytes), name, place


def _hull(tensor: TensorSensitivity, types: Collection[str] | None) -> list[Point]:
    """The lower convex hull of a tensor's types, from the smallest on."""
    points = sorted(
        (
            Point(nbytes=loss.nbytes, cost=tensor.alpha * loss.error)
            for name, loss in tensor.losses.items()
            if types is None or name in types
        ),
        key=lambda point: (point.nbytes, point.cost),
    )
    hull: list[Point] = []
    for point in points:
        if hull and (point.cost >= hull[-1].cost or point.nbytes == hull[-1].nbytes):
            continue
        while len(hull) > 1 and _slope(hull[-2], point) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(point)
    return hull


def _slope(one: Point, other: Point) -> float:
    return (other.cost - one.cost) / (other.nbytes - one.nbytes)
