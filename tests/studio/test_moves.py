"""Moves: the same mixes as `fit` finds, frozen into recipes that give them; and goals that can't be kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.studio import SMALL

from quantrecipe.allocate.knapsack.bound import Bound
from quantrecipe.allocate.knapsack.option_table import Table
from quantrecipe.allocate.knapsack.search import Found, search
from quantrecipe.allocate.limits import meters
from quantrecipe.allocate.losses import Losses
from quantrecipe.errors import PlanError
from quantrecipe.fit import Request, fit
from quantrecipe.fit.doubt import least_regret, seen_from
from quantrecipe.fit.stock import estimated_loss
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.studio.moves import Goal, frozen, moved
from quantrecipe.studio.opened import Opened

Opens = Callable[[str], Opened]
EXAMPLE = str(Path(__file__).parents[2] / "examples/tiny-code")


@pytest.fixture
def opened(opened_for_tests: Opens) -> Opened:
    return opened_for_tests(SMALL)


def types(plan: Plan) -> Mapping[str, str]:
    return {a.tensor.name: a.type for a in plan.assignments}


def between(opened: Opened, share: float) -> float:
    least, most = opened.smallest.nbytes, opened.best.nbytes
    return least + share * (most - least)


@pytest.mark.parametrize("share", [0.2, 0.7])
@pytest.mark.parametrize("kind", ["bits", "vram"])
def test_a_mix_is_the_one_that_fit_finds(opened: Opened, kind: str, share: float) -> None:
    """Where no recipe has to fit into the file beside it: there both leave room in their own way."""
    value = 3 + 5 * share if kind == "bits" else between(opened, share) + 600_000_000
    goal = Goal(kind=kind, value=value, context=2048)
    request = Request(name="x", budget=goal.budget)
    presets = {mix.name: mix.plan for mix in opened.presets}
    fitted = fit(opened.model, request, opened.knows.registry)
    assert types(fitted.fitted_plan) == types(moved(opened, goal).plan)
    assert {mix.name for mix in fitted.stock} == presets.keys()


def test_a_preset_s_view_is_that_of_fit(opened: Opened) -> None:
    """Choices that are seen from a preset, and what the losses of its sensitivity come to."""
    registry, goal = opened.knows.registry, Goal(kind="bits", value=5.0)
    rival = opened.rival(opened.presets[3:6])
    assert rival == least_regret(opened.presets[3:6], opened.losses)
    assert rival is not None
    view, items = opened.view(rival, "bits", goal.budget)
    losses = Losses(opened.model, registry, seen_from(rival.plan, opened.losses, registry), {})
    for name, candidates in view.open_to.items():
        for it in candidates:
            assert it.loss == losses.of(name, it.choice.format.spec)
    assert items == view.items(goal.budget)
    assert opened.view(rival, "bits", goal.budget)[1] is items
    assert opened.view(rival, "size", Goal(kind="size", value=1e9).budget)[1] is not items


def test_views_that_are_dropped_come_back_the_same(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    goal = Goal(kind="bits", value=4.0)
    before = types(moved(opened, goal).plan)
    monkeypatch.setattr("quantrecipe.studio.opened._VIEWS", 1)
    opened._views.clear()  # other tests share it, and have looked at all there are
    for value in (3.0, 6.0, 8.0):
        moved(opened, Goal(kind="bits", value=value))
    assert len(opened._views) == 1
    assert types(moved(opened, goal).plan) == before


@pytest.mark.parametrize("model", [SMALL, EXAMPLE], ids=["shape", "example"])
@pytest.mark.parametrize("share", [0.02, 0.35, 0.8, 0.99])
def test_the_recipe_is_the_mix_within_the_size(model: str, share: float, opened_for_tests: Opens) -> None:
    opened = opened_for_tests(model)
    goal = Goal(kind="size", value=between(opened, share) + opened.room)
    mix = moved(opened, goal)
    assert mix.limit == ""
    made = frozen(opened, goal)
    assert types(made.plan) == types(mix.plan) == types(made.moved.plan)
    assert made.plan.nbytes <= goal.value
    again = make_plan(made.recipe, opened.model, registry=opened.knows.registry)
    assert (again.nbytes, types(again)) == (made.plan.nbytes, types(made.plan))
    assert "Made by `quantrecipe studio`" in made.text


def test_a_recipe_that_is_longer_than_the_room_that_was_left(opened_for_tests: Opens) -> None:
    """The size is kept, and the next move knows better."""
    opened = replace_room(opened_for_tests(EXAMPLE), 0)
    for share in (0.3, 0.4, 0.5, 0.6, 0.7):
        goal = Goal(kind="size", value=between(opened, share))
        made = frozen(opened, goal)
        assert made.plan.nbytes <= goal.value
        assert types(moved(opened, goal).plan) == types(made.plan)
    assert opened.room > 0


def replace_room(opened: Opened, room: int) -> Opened:
    """Another one, so that tests that share it find it as it was."""
    fields = {name: getattr(opened, name) for name in Opened.__dataclass_fields__ if not name.startswith("_")}
    return Opened(**{k: v for k, v in fields.items() if k not in ("runs", "in_doubt", "room")}, room=room)


class TestLimits:
    @pytest.mark.parametrize("kind", ["size", "bits", "vram"])
    def test_too_little(self, opened: Opened, kind: str) -> None:
        found = moved(opened, Goal(kind=kind, value=0.5))
        assert found.limit.startswith("the budget can't be kept: ")
        assert "the smallest types that are allowed take" in found.limit
        assert types(found.plan) == types(opened.smallest)
        assert found.rival is None

    @pytest.mark.parametrize(("kind", "value"), [("size", 1e12), ("bits", 60)])
    def test_more_than_is_needed(self, opened: Opened, kind: str, value: float) -> None:
        found = moved(opened, Goal(kind=kind, value=value))
        assert found.limit.startswith("the budget leaves nothing to choose: ")
        assert types(found.plan) == types(opened.best)

    def test_a_gpu_with_more_memory_than_is_needed(self, opened: Opened) -> None:
        found = moved(opened, Goal(kind="vram", value=1e12))
        assert (found.limit, types(found.plan)) == ("", types(opened.best))

    @pytest.mark.parametrize("value", [0.5, 60])
    def test_the_nearest_mix_has_a_recipe(self, opened: Opened, value: float) -> None:
        goal = Goal(kind="bits", value=value)
        made = frozen(opened, goal)
        assert types(made.plan) == types(moved(opened, goal).plan)
        assert made.moved.limit

    def test_a_type_that_a_cache_can_not_have(self) -> None:
        with pytest.raises(PlanError, match="the KV cache can't be Q3_K; its types are f32, f16"):
            _ = Goal(kind="bits", value=4, kv="Q3_K").settings
        assert Goal(kind="bits", value=4, kv="Q8_0").settings.kv == "q8_0"


def test_the_rival_keeps_the_limit_and_loses_least(opened: Opened) -> None:
    goal = Goal(kind="bits", value=5.0)
    found = moved(opened, goal)
    assert found.rival is not None
    assert found.rival.bits_per_weight <= 5.0
    (meter,) = meters(goal.budget, opened.model)
    keeping = [mix for mix in opened.presets if meter.whole(mix.plan) <= meter.most]
    assert found.rival == least_regret(keeping, opened.losses)
    assert estimated_loss(found.plan, opened.losses) < found.rival.loss


@pytest.mark.slow
def test_a_size_at_which_one_tensor_decides(opened_for_tests: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the nearest options lead to a choice that is far from the best; to look further saves a second of search."""
    opened = opened_for_tests("shapes/qwen3.6-27b")
    looked_at: list[int] = []

    def counted(table: Table, bound: Bound, options: NDArray[np.int64], **how: Any) -> Found:
        looked_at.append(len(options))
        return search(table, bound, options, **how)

    monkeypatch.setattr("quantrecipe.allocate.knapsack.optimise.search", counted)
    goal = Goal(kind="size", value=between(opened, 0.0125) + opened.room)
    found = moved(opened, goal)
    assert found.spending.gap == 0.0
    assert len(looked_at) == 3
    assert looked_at[-1] < 1_500  # of 3,486
