"""What a trial on a text makes of an estimate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from quantrecipe.fit import Fitted, Request, fit
from quantrecipe.fit.stock import recipe_like
from quantrecipe.fit.trial import Trial, settle
from quantrecipe.model.open_model import open_model
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.origin import Origin
from quantrecipe.registry import Registry, load_registry

TINY = Path(__file__).parents[2] / "examples/tiny-code"
REQUEST = Request(name="fitted", budget=Budget(origin=Origin(file="test", line=0), bpw=4.9))
TRIAL = Trial(
    text="val.txt", positions=1000, rival="Q4_K_S", fitted=0.002, stock=0.003, difference=-0.001, error=0.0001
)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def fitted(registry: Registry) -> Fitted:
    stock = {"Q4_K_S": recipe_like("Q4_K_S", registry)}
    found = fit(open_model(TINY, registry=registry), REQUEST, registry, stock=stock)
    assert found.winner is None
    return found


def test_what_is_better_stays(fitted: Fitted, registry: Registry) -> None:
    settled = settle(fitted, REQUEST, TRIAL)
    assert settled.winner is None
    assert settled.text.startswith(
        "# Tried on val.txt (1,000 positions) what was fitted loses 0.002, Q4_K_S 0.003"
    )
    assert settled.text.endswith(fitted.text)
    assert load_recipe_text(settled.text, registry=registry).name == "fitted"


def test_a_stock_mix_that_is_surely_better_takes_its_place(fitted: Fitted, registry: Registry) -> None:
    settled = settle(fitted, REQUEST, replace(TRIAL, fitted=0.004, difference=0.001))
    assert settled.winner is fitted.best_rival
    assert settled.plan is settled.winner.plan
    assert "extends: llama.cpp/Q4_K_S" in settled.text
    assert load_recipe_text(settled.text, registry=registry).name == "fitted"


def test_an_accident_of_the_text_changes_nothing(fitted: Fitted) -> None:
    settled = settle(fitted, REQUEST, replace(TRIAL, fitted=0.0031, difference=0.0001))
    assert settled.winner is None
    assert settled.plan is fitted.fitted_plan


def test_a_trial_says_more_than_a_cautious_estimate(fitted: Fitted) -> None:
    cautious = replace(fitted, text="stock", winner=fitted.best_rival)
    settled = settle(cautious, REQUEST, TRIAL)
    assert settled.winner is None
    assert settled.text.endswith(fitted.fitted_text)
