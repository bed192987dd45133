"""The smallest mix within a measured loss: between two ends, and what is said where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from support.mixes import World, known

from quantrecipe.errors import EvaluationError, PlanError
from quantrecipe.fit import Fitted, Request, fit
from quantrecipe.fit.reach import Goal, reach
from quantrecipe.fit.stock import recipe_like
from quantrecipe.fit.tried import Effort, Search
from quantrecipe.measure.mixed import Mixed
from quantrecipe.model.model import Model
from quantrecipe.plan.plan import Plan
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.origin import Origin
from quantrecipe.registry import Registry

TINY = Path(__file__).parents[2] / "examples/tiny-code"
NOTHING = Budget(origin=Origin(file="test", line=0))


def fitted(model: Model, registry: Registry, budget: Budget, stock: tuple[str, ...] = ()) -> Fitted:
    recipes = {name: recipe_like(name, registry) for name in stock}
    request = Request(name="small", budget=budget)
    return fit(model, request, registry, sensitivity=known(model, registry), stock=recipes)


def reached(
    found: Fitted, world: World, goal: Goal, evaluations: int = 24, workers: Workers | None = None
) -> tuple[Fitted, Search]:
    mixer = found.mixer

    def unchanged() -> Mixed:
        made = world(found.plan, "the model itself")
        world.asked.pop()
        if workers is not None:
            workers.before_the_base = list(workers.steps)
        return replace(made, divergence=(0.0,) * len(made.counts))

    done = reach(
        found,
        goal,
        world,
        unchanged,
        Effort(evaluations=evaluations),
        text="search.txt",
        sensitivity=known(mixer.model, mixer.registry),
        **({} if workers is None else {"expect": workers.expect, "at_once": lambda: workers.count}),
    )
    assert done.search is not None
    return done, done.search


class Workers:
    """So many mixes are evaluated at once. steps: the names of those that were expected together"""

    def __init__(self, count: int) -> None:
        self.count = count
        self.steps: list[list[str]] = []
        self.before_the_base: list[list[str]] = []

    def expect(self, plans: Iterable[tuple[Plan, str]]) -> None:
        names = [what for _, what in islice(plans, self.count)]
        if not self.steps or names != self.steps[-1][-len(names) :]:  # the rest of what was expected
            self.steps.append(names)


def nbytes(plan: Plan) -> int:
    return sum(a.nbytes for a in plan.assignments)


class Factor(World):
    """An engine that sees `times` what is estimated."""

    times = 1.0

    def loss(self, plan: Plan) -> float:
        return self.times * super().loss(plan)


@pytest.mark.parametrize("times", [0.4, 1.0, 1.7, 6.0])
def test_the_engine_decides_what_is_within(tiny: Model, registry: Registry, times: float) -> None:
    world = Factor(tiny, registry, noise=0)
    world.times = times
    found, told = reached(
        fitted(tiny, registry, replace(NOTHING, kld=0.01)), world, Goal(key="kld", most=0.01)
    )
    assert 0.0095 < told.value <= 0.01
    assert told.value == pytest.approx(world.loss(found.plan), rel=1e-6)
    best = fitted(tiny, registry, replace(NOTHING, kld=0.01 / times)).plan
    assert nbytes(found.plan) <= 1.01 * nbytes(best)
    assert told.ended.startswith("--kld binds: this is the smallest mix that was found within it")
    assert "Limits: kld 0.01." in found.text  # and not what was asked of the estimate
    assert len(told.tried) <= 10
    assert all(tried.within == (tried.kld <= 0.01) for tried in told.tried)
    assert "Tried on search.txt (8,192 positions): this mix has a mean KL divergence of 0.009" in " ".join(
        found.text.replace("#", " ").split()
    )


def test_a_perplexity(tiny: Model, registry: Registry) -> None:
    class Cost(World):
        """Each nat of divergence costs half a nat."""

        def __call__(self, plan: Plan, what: str) -> Mixed:
            made = super().__call__(plan, what)
            quantized = what != "the model itself"
            cost = tuple(
                2.0 * n + 0.5 * d * quantized for n, d in zip(made.counts, made.divergence, strict=True)
            )
            return replace(made, cost=cost)

    world = Cost(tiny, registry, noise=0)
    goal = Goal(key="perplexity", most=0.01)
    found, told = reached(fitted(tiny, registry, replace(NOTHING, kld=0.01)), world, goal)
    assert 0.0093 < told.value <= 0.01
    assert told.value == pytest.approx(math.expm1(0.5 * world.loss(found.plan)), rel=1e-6)
    assert "Limits: perplexity +1 %." in found.text
    assert "a perplexity of +0.9" in found.text or "a perplexity of +1.00 %" in found.text


def test_other_limits_bind_where_the_goal_is_beyond_them(tiny: Model, registry: Registry) -> None:
    world = World(tiny, registry, noise=0)
    base = fitted(tiny, registry, replace(NOTHING, size=2_000_000))
    found, told = reached(base, world, Goal(key="kld", most=0.001))
    assert told.ended.startswith("--size binds: the best mix within it has a mean KL divergence of 0.00")
    assert len(told.tried) == 1
    assert found.plan.nbytes <= 2_000_000
    assert told.value > 0.001
    loose, told = reached(base, world, Goal(key="kld", most=0.03))
    assert told.ended.startswith("--kld binds")
    assert loose.plan.nbytes < 1_900_000


def test_what_nothing_meets_says_how_near_one_can_come(tiny: Model, registry: Registry) -> None:
    world = Factor(tiny, registry, noise=0)
    world.times = 100
    with pytest.raises(
        PlanError, match=r"stays within a mean KL divergence of 0.001: the best types come to a"
    ):
        reached(fitted(tiny, registry, replace(NOTHING, kld=0.001)), world, Goal(key="kld", most=0.001))


def test_everything_is_within(tiny: Model, registry: Registry) -> None:
    world = World(tiny, registry, noise=0)
    found, told = reached(fitted(tiny, registry, replace(NOTHING, kld=5.0)), world, Goal(key="kld", most=5.0))
    assert "no types that are allowed are smaller" in told.ended
    assert {a.bits_per_weight for a in found.plan.assignments if a.format.spec.block > 1} == {2.625}


def test_a_smaller_preset_that_is_within_is_the_answer(tiny: Model, registry: Registry) -> None:
    class Better(World):
        def loss(self, plan: Plan) -> float:
            return 0.009 if plan.recipe in ("IQ4_XS", "llama.cpp/IQ4_XS") else 2 * super().loss(plan)

    world = Better(tiny, registry, noise=0)
    base = fitted(tiny, registry, replace(NOTHING, kld=0.01), stock=("IQ4_XS", "Q8_0"))
    found, told = reached(base, world, Goal(key="kld", most=0.01))
    assert nbytes(found.fitted_plan) > nbytes(found.plan)
    assert found.winner is not None and found.winner.name == told.preset == "IQ4_XS"
    assert "extends: llama.cpp/IQ4_XS" in found.text


@pytest.mark.parametrize("evaluations", [1, 2, 3])
def test_no_more_than_was_allowed(tiny: Model, registry: Registry, evaluations: int) -> None:
    world = Factor(tiny, registry, noise=0)
    world.times = 0.5
    _, told = reached(
        fitted(tiny, registry, replace(NOTHING, kld=0.01)), world, Goal(key="kld", most=0.01), evaluations
    )
    assert len(told.tried) == evaluations
    assert f"all {evaluations} evaluations are used up" in told.ended
    world.times = 30
    with pytest.raises(PlanError, match=f"all {evaluations} evaluations are used up, and the nearest has"):
        reached(
            fitted(tiny, registry, replace(NOTHING, kld=0.01)), world, Goal(key="kld", most=0.01), evaluations
        )


def test_texts_that_can_t_tell_mixes_apart(tiny: Model, registry: Registry) -> None:
    world = World(tiny, registry, blocks=9)
    with pytest.raises(EvaluationError, match="the search text has 9 chunks"):
        reached(fitted(tiny, registry, replace(NOTHING, kld=0.01)), world, Goal(key="kld", most=0.01))


class TestSeveralAtOnce:
    @pytest.mark.parametrize(("workers", "times"), [(2, 1.7), (4, 0.4), (4, 6.0), (8, 1.0)])
    def test_it_is_as_small_in_fewer_steps(
        self, tiny: Model, registry: Registry, workers: int, times: float
    ) -> None:
        base = fitted(tiny, registry, replace(NOTHING, kld=0.01))
        goal = Goal(key="kld", most=0.01)
        world = Factor(tiny, registry, noise=0)
        world.times = times
        alone, _ = reached(base, world, goal)
        world.asked.clear()
        by = Workers(workers)
        found, told = reached(base, world, goal, 40, by)
        assert 0.0095 < told.value <= 0.01
        assert abs(nbytes(found.plan) - nbytes(alone.plan)) <= 0.002 * nbytes(alone.plan)
        assert told.ended.startswith("--kld binds: this is the smallest mix that was found within it")
        assert len(by.steps) <= 4
        assert [what for step in by.steps for what in step] == world.asked
        assert len(by.steps[0]) == workers
        assert len(told.tried) == len(world.asked)
        inside = [it.nbytes for it in told.tried if it.within]
        outside = [it.nbytes for it in told.tried if not it.within and it.nbytes < nbytes(found.plan)]
        assert min(inside) == nbytes(found.plan)
        assert max(outside) >= 0.998 * min(inside)

    def test_one_worker_takes_the_steps_of_none(self, tiny: Model, registry: Registry) -> None:
        base = fitted(tiny, registry, replace(NOTHING, kld=0.01))
        goal = Goal(key="kld", most=0.01)
        world = World(tiny, registry, noise=0)
        _, alone = reached(base, world, goal)
        _, told = reached(base, world, goal, workers=Workers(1))
        assert told == alone

    def test_where_no_mix_is_between(self, tiny: Model, registry: Registry) -> None:
        """Choices are few where nearly everything has the best type: losses of one mix are asked for once."""
        world = Factor(tiny, registry, noise=0)
        world.times = 6
        base = fitted(tiny, registry, replace(NOTHING, kld=0.003))
        found, told = reached(base, world, Goal(key="kld", most=0.003), 40, Workers(3))
        assert "no mix is between it and one that isn't within it" in told.ended
        assert len(told.tried) < 20
        sizes = [it.nbytes for it in told.tried]
        assert len(set(sizes)) == len(sizes)
        assert told.value <= 0.003
        assert min(it.nbytes for it in told.tried if it.within) == nbytes(found.plan)

    def test_everything_is_within(self, tiny: Model, registry: Registry) -> None:
        world = World(tiny, registry, noise=0)
        base = fitted(tiny, registry, replace(NOTHING, kld=5.0))
        found, told = reached(base, world, Goal(key="kld", most=5.0), workers=Workers(3))
        assert "no types that are allowed are smaller" in told.ended
        assert {a.bits_per_weight for a in found.plan.assignments if a.format.spec.block > 1} == {2.625}

    def test_what_nothing_meets(self, tiny: Model, registry: Registry) -> None:
        world = Factor(tiny, registry, noise=0)
        world.times = 100
        base = fitted(tiny, registry, replace(NOTHING, kld=0.001))
        with pytest.raises(PlanError, match=r"stays within a mean KL divergence of 0.001: the best types"):
            reached(base, world, Goal(key="kld", most=0.001), workers=Workers(3))

    def test_other_limits(self, tiny: Model, registry: Registry) -> None:
        world = World(tiny, registry, noise=0)
        base = fitted(tiny, registry, replace(NOTHING, size=2_000_000))
        _, told = reached(base, world, Goal(key="kld", most=0.001), workers=Workers(3))
        assert told.ended.startswith("--size binds")
        assert len(told.tried) == 1
        loose, told = reached(base, world, Goal(key="kld", most=0.03), workers=Workers(3))
        assert told.ended.startswith("--kld binds")
        assert loose.plan.nbytes < 1_900_000
        assert all(it.nbytes <= 2_000_000 for it in told.tried)

    @pytest.mark.parametrize(("evaluations", "steps"), [(1, [1]), (2, [1, 1]), (5, [2, 1, 1, 1])])
    def test_no_more_than_was_allowed_and_some_are_left_for_later_steps(
        self, tiny: Model, registry: Registry, evaluations: int, steps: list[int]
    ) -> None:
        world = Factor(tiny, registry, noise=0)
        world.times = 0.5
        base = fitted(tiny, registry, replace(NOTHING, kld=0.01))
        by = Workers(4)
        _, told = reached(base, world, Goal(key="kld", most=0.01), evaluations, by)
        assert len(told.tried) == evaluations
        assert [len(step) for step in by.steps] == steps
        assert f"all {evaluations} evaluations are used up" in told.ended
        world.times = 200
        with pytest.raises(PlanError, match=r"evaluations are used up, and the nearest has|the best types"):
            reached(base, world, Goal(key="kld", most=0.01), evaluations, Workers(4))

    def test_a_mix_that_is_smaller_and_better_than_one_beyond(self, tiny: Model, registry: Registry) -> None:
        """The engine needn't agree with the estimate about the order: what is smaller than both goes on."""

        class Pocket(World):
            def loss(self, plan: Plan) -> float:
                beyond = 1_950_000 < nbytes(plan) < 2_050_000
                return 0.02 if beyond else 0.8 * super().loss(plan)

        world = Pocket(tiny, registry, noise=0)
        base = fitted(tiny, registry, replace(NOTHING, kld=0.01))
        found, told = reached(base, world, Goal(key="kld", most=0.01), 40, Workers(4))
        assert told.value <= 0.01
        assert min(it.nbytes for it in told.tried if it.within) == nbytes(found.plan) < 1_950_000
        assert any(it.nbytes > 1_950_000 and not it.within for it in told.tried)

    def test_the_model_itself_is_evaluated_beside_the_first_step(
        self, tiny: Model, registry: Registry
    ) -> None:
        class Cost(World):
            """Each nat of divergence costs half a nat."""

            def __call__(self, plan: Plan, what: str) -> Mixed:
                made = super().__call__(plan, what)
                quantized = what != "the model itself"
                cost = (
                    2.0 * n + 0.5 * d * quantized for n, d in zip(made.counts, made.divergence, strict=True)
                )
                return replace(made, cost=tuple(cost))

        by = Workers(3)
        base = fitted(tiny, registry, replace(NOTHING, kld=0.01))
        world = Cost(tiny, registry, noise=0)
        _, told = reached(base, world, Goal(key="perplexity", most=0.01), workers=by)
        assert 0.0093 < told.value <= 0.01
        assert len(by.before_the_base) == 1
        assert len(by.before_the_base[0]) == 3

    def test_smaller_presets_are_tried_together(
        self, tiny: Model, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Worse(World):
            """Presets lose more, so that all that may be smaller are tried."""

            def loss(self, plan: Plan) -> float:
                return 0.02 if plan.recipe.removeprefix("llama.cpp/") in stock else 2 * super().loss(plan)

        monkeypatch.setattr("quantrecipe.fit.reach.WORTH", 3)  # two of these presets are smaller then
        stock = ("IQ4_XS", "Q3_K_L", "Q4_K_S")
        world = Worse(tiny, registry, noise=0)
        base = fitted(tiny, registry, replace(NOTHING, kld=0.01), stock=stock)
        by = Workers(2)
        _, told = reached(base, world, Goal(key="kld", most=0.01), workers=by)
        presets = [it.what for it in told.tried if it.what in stock]
        assert len(presets) == 2
        assert by.steps[-1] == presets
