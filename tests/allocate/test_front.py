"""The front: the cheapest mixes at each size, found here by trying all of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from quantrecipe.allocate.front import front, uniform
from quantrecipe.sensitivity import Loss, Sensitivity, TensorSensitivity

SIZES = {"A": 20, "B": 30, "C": 45, "D": 80}


@pytest.fixture
def found() -> Sensitivity:
    rng = np.random.default_rng(8)
    return Sensitivity(
        tensors={
            name: TensorSensitivity(
                name=name,
                digest="",
                weights=100,
                losses={
                    type_: Loss(
                        error=float(4.0 ** (-size / 12) * rng.uniform(0.7, 1.4)),
                        standard_error=0,
                        nbytes=size,
                    )
                    for type_, size in SIZES.items()
                },
                alpha=float(rng.uniform(0.1, 10)),
            )
            for name in ("u", "v", "w", "x")
        }
    )


def test_no_mix_beats_it(found: Sensitivity) -> None:
    points = front(found)
    sizes = [point.nbytes for point in points]
    costs = [point.cost for point in points]
    assert sizes == sorted(sizes)
    assert costs == sorted(costs, reverse=True)
    mixes = []
    for types in product(SIZES, repeat=4):
        mix = dict(zip(found.tensors, types, strict=True))
        mixes.append((sum(SIZES[type_] for type_ in types), found.total(mix)))
    for nbytes, cost in mixes:
        assert cost is not None
        assert cost >= np.interp(nbytes, sizes, costs) * (1 - 1e-12)
    for point in points:
        assert any(nbytes == point.nbytes and cost == pytest.approx(point.cost) for nbytes, cost in mixes)


def test_one_type_for_everything(found: Sensitivity) -> None:
    point = uniform(found)["B"]
    assert point.nbytes == 120
    assert point.cost == pytest.approx(found.total(dict.fromkeys(found.tensors, "B")))


def test_types_can_be_limited(found: Sensitivity) -> None:
    assert front(found, {"B"}) == [uniform(found)["B"]]
