"""What became of a budget, in numbers."""

from __future__ import annotations

import pytest

from quantrecipe.plain_data import plain
from quantrecipe.plan.spending import Spending, Spent


def spending(loss: float, bound: float) -> Spending:
    spent = Spent(key="size", most=100, used=90, more=7, gain=0.123456789)
    return Spending(limits=(spent,), loss=loss, bound=bound, source="prior", losses={"a": loss})


@pytest.mark.parametrize(
    ("loss", "bound", "gap"),
    [(4.0, 3.0, 0.25), (4.0, 4.0, 0.0), (4.0, 4.1, 0.0), (0.0, 0.0, 0.0), (1.0, 0.0, 1.0)],
)
def test_the_gap_is_a_share_of_the_loss(loss: float, bound: float, gap: float) -> None:
    assert spending(loss, bound).gap == gap


def test_for_machines() -> None:
    found = plain(spending(1.23456789123, 1.2))
    assert list(found) == ["limits", "loss", "gap", "source"]
    (limit,) = found["limits"]
    assert list(limit.items())[:4] == [("key", "size"), ("most", 100), ("used", 90), ("more", 7)]
    assert limit["gain"] == pytest.approx(0.123456789, rel=1e-5)
    assert found["loss"] == pytest.approx(1.23456789, rel=1e-5)
    assert found["gap"] == pytest.approx(0.028, rel=1e-2)
    assert found["source"] == "prior"
