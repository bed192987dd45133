"""What is measured of this machine: a rate for each way in which a plan makes weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.shared_work import plan_of_kind

from quantrecipe.output.shares import rates as module
from quantrecipe.output.shares.rates import given_rate, measured_rates
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(autouse=True)
def few_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_WEIGHTS", 1 << 15)
    monkeypatch.setattr(module, "PART_WEIGHTS", 1 << 15)


def test_a_given_rate_is_that_of_everything(tmp_path: Path, registry: Registry) -> None:
    plan, rates = plan_of_kind("dense", tmp_path, registry), given_rate(4e6)
    assert {rates.weight_of(a) for a in plan.assignments} == {2.5e-7}
    assert rates.mean(plan) == pytest.approx(2.5e-7)
    assert not rates.measured


@pytest.mark.parametrize("kind", ["dense", "importance", "factors"])
def test_each_way_is_measured(kind: str, tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind(kind, tmp_path, registry)
    rates = measured_rates(plan, registry)
    assert rates.measured
    for a in plan.assignments:
        if a.owner is None:
            assert 0 < rates.weight_of(a) < 1e-3, a.tensor.name
    assert {way[1] for way in rates.weights} == {
        "copied" if a.copied else a.type for a in plan.assignments if a.owner is None
    }
    assert {way[2] for way in rates.weights} == {a.importance for a in plan.assignments}


def test_what_takes_longer_is_slower(tmp_path: Path, registry: Registry) -> None:
    rates = measured_rates(plan_of_kind("importance", tmp_path, registry), registry)
    by_type = {way[1]: seconds for way, seconds in rates.weights.items()}
    assert by_type["IQ4_XS"] > by_type["copied"]


def test_an_encoder_with_inputs_takes_more_for_longer_rows(tmp_path: Path, registry: Registry) -> None:
    from dataclasses import replace

    plan = plan_of_kind("feedback", tmp_path, registry)
    rates = measured_rates(plan, registry)
    query = next(a for a in plan.assignments if a.inputs)
    assert set(rates.prepare) == {"feedback"}
    longer = replace(query, tensor=replace(query.tensor, shape=(256, 2048)))
    assert rates.weight_of(longer) > 8 * rates.weight_of(query)
