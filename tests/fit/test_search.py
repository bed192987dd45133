"""The choice by measurement: what is tried, what is kept, and when it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from support.mixes import World, known

from quantrecipe.errors import EvaluationError, PlanError
from quantrecipe.fit import Fitted, Request, fit
from quantrecipe.fit.request import like_budget
from quantrecipe.fit.search import search
from quantrecipe.fit.stock import estimated_loss, recipe_like, stock_plan
from quantrecipe.fit.tried import Effort, Search
from quantrecipe.model.model import Model
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.origin import Origin
from quantrecipe.registry import Registry

TINY = Path(__file__).parents[2] / "examples/tiny-code"
STOCK = ("Q3_K_S", "Q3_K_M", "Q2_K")


@pytest.fixture(scope="module")
def fitted(tiny: Model, registry: Registry) -> Fitted:
    recipes = {name: recipe_like(name, registry) for name in STOCK}
    like = stock_plan(recipes["Q3_K_M"], tiny, registry, None, allow_requantize=False)
    request = Request(name="found", budget=like_budget(like, Budget(origin=Origin(file="test", line=0))))
    return fit(tiny, request, registry, sensitivity=known(tiny, registry), stock=recipes)


def searched(fitted: Fitted, world: World, evaluations: int = 40, **effort: object) -> tuple[Fitted, Search]:
    made = Effort(evaluations=evaluations, **effort)  # type: ignore[arg-type]  # as given
    mixer = fitted.mixer
    found = search(fitted, world, made, text="search.txt", sensitivity=known(mixer.model, mixer.registry))
    assert found.search is not None
    return found, found.search


def test_where_the_estimate_is_right_what_was_fitted_stays(
    fitted: Fitted, tiny: Model, registry: Registry
) -> None:
    world = World(tiny, registry)
    found, told = searched(fitted, world)
    assert told.best == "fitted" or told.kld <= world.loss(fitted.fitted_plan) * 1.001
    assert found.winner is None
    assert told.preset == "Q3_K_M" and told.change < 0
    assert world.asked[:3] == ["fitted", "Q3_K_M", "Q3_K_S"]
    assert "nothing is left" in told.ended
    assert len(told.tried) == len(world.asked) <= 40


def test_alphas_that_are_wrong_are_corrected_by_slopes(
    fitted: Fitted, tiny: Model, registry: Registry
) -> None:
    """Attention matters six times as much as was thought."""
    world = World(tiny, registry, lambda name: 6.0 if "attn" in name else 1.0)
    found, told = searched(fitted, world)
    assert any(tried.what.startswith("refitted") and tried.kept for tried in told.tried)
    assert any(not tried.within for tried in told.tried)
    assert world.loss(found.plan) < 0.93 * world.loss(fitted.fitted_plan)
    used = next(spent for spent in found.spending.limits if spent.key == "bpw")
    assert used.used <= used.most


def test_a_type_that_does_more_than_was_measured_is_left_out(
    fitted: Fitted, tiny: Model, registry: Registry
) -> None:
    types = {a.type for a in fitted.fitted_plan.assignments if a.format.spec.block > 1}
    assert "IQ4_XS" in types
    world = World(tiny, registry, types={"IQ4_XS": 2.0})
    found, told = searched(fitted, world)
    assert told.tried[4].what == "without IQ4_XS" and told.tried[4].kept
    assert "IQ4_XS" not in {a.type for a in found.plan.assignments}
    assert world.loss(found.plan) < 0.9 * world.loss(fitted.fitted_plan)


@pytest.mark.slow
def test_a_preset_that_is_not_surely_worse_is_the_answer(
    fitted: Fitted, tiny: Model, registry: Registry
) -> None:
    class Better(World):
        def loss(self, plan: Plan) -> float:
            return 0.001 if plan.recipe == "llama.cpp/Q3_K_M" or plan.recipe == "Q3_K_M" else 0.01

    world = Better(tiny, registry)
    found, told = searched(fitted, world)
    assert found.winner is not None and found.winner.name == told.preset == "Q3_K_M"
    assert found.plan is found.winner.plan
    assert "extends: llama.cpp/Q3_K_M" in found.text
    assert "# Tried on search.txt (8,192 positions)" in found.text


@pytest.mark.slow
def test_the_recipe_is_what_was_found(fitted: Fitted, tiny: Model, registry: Registry) -> None:
    found, _ = searched(fitted, World(tiny, registry, lambda name: 6.0 if "attn" in name else 1.0))
    plan = make_plan(load_recipe_text(found.text, registry=registry), tiny, registry=registry)
    types = [{a.tensor.name: a.type for a in it.assignments} for it in (plan, found.plan)]
    assert types[0] == types[1]
    assert found.loss == pytest.approx(estimated_loss(found.plan, found.mixer.losses))
    assert sum(len(decision.members) for decision in found.decisions) == 29


@pytest.mark.parametrize("evaluations", [1, 2, 5])
def test_no_more_than_was_allowed(fitted: Fitted, tiny: Model, registry: Registry, evaluations: int) -> None:
    world = World(tiny, registry)
    found, told = searched(fitted, world, evaluations)
    assert len(world.asked) == len(told.tried) == evaluations
    assert told.ended == f"all {evaluations} evaluations are used up"
    assert found.text


def test_no_longer_than_was_allowed(fitted: Fitted, tiny: Model, registry: Registry) -> None:
    def clock() -> Iterator[float]:
        seconds = 0.0
        while True:
            yield seconds
            seconds += 20

    times = clock()
    _, told = searched(fitted, World(tiny, registry), minutes=1.0, clock=lambda: next(times))
    assert told.ended == "the 1 minutes are used up"
    assert len(told.tried) == 4  # at 0, then asked at 20, 40 and 60 seconds


@pytest.mark.slow
def test_noise_is_no_gain(fitted: Fitted, tiny: Model, registry: Registry) -> None:
    """Blocks of which each mix has its own luck: nothing that is expected to be worse is kept."""
    world = World(tiny, registry, noise=0.2)
    found, told = searched(fitted, world)
    losses = [world.loss(found.plan), world.loss(fitted.fitted_plan)]
    assert losses[0] <= 1.1 * losses[1]
    assert all(tried.change < -2 * tried.error for tried in told.tried[1:] if tried.kept)


def test_texts_that_can_t_tell_mixes_apart(fitted: Fitted, tiny: Model, registry: Registry) -> None:
    with pytest.raises(EvaluationError, match="the search text has 9 chunks or documents, and fewer than 10"):
        searched(fitted, World(tiny, registry, blocks=9))


def test_types_with_factors_beside_them_can_t_be_tried(tiny: Model, registry: Registry) -> None:
    request = Request(
        name="nv", budget=Budget(origin=Origin(file="test", line=0), bpw=6.0), types=("NVFP4", "Q8_0")
    )
    found = fit(tiny, request, registry, stock={})
    with pytest.raises(PlanError, match="NVFP4 keeps factors in a tensor of its own"):
        searched(found, World(tiny, registry))


def test_what_will_be_tried_is_guessed_and_changes_nothing(
    fitted: Fitted, tiny: Model, registry: Registry
) -> None:
    alone = World(tiny, registry, lambda name: 6.0 if "attn" in name else 1.0)
    _, expected = searched(fitted, alone)
    world = World(tiny, registry, lambda name: 6.0 if "attn" in name else 1.0)
    guesses: list[list[str]] = []
    places: list[int] = []

    def expect(plans: Iterable[tuple[Plan, str]]) -> None:
        guesses.append([what for _, what in islice(plans, 3)])
        places.append(len(world.asked))

    sensitivity = known(fitted.mixer.model, registry)
    effort = Effort(evaluations=40)
    found = search(fitted, world, effort, text="search.txt", sensitivity=sensitivity, expect=expect)
    assert found.search == expected
    assert world.asked == alone.asked
    firsts = [guess[0] == world.asked[place] for guess, place in zip(guesses, places, strict=True) if guess]
    assert all(firsts)
    assert len(firsts) > len(world.asked) / 2
    later = [what for guess in guesses for what in guess[1:]]
    assert sum(what in world.asked for what in later) > len(later) / 2
