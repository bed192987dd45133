"""The best choice, as trying all of them finds it; exact limits; the same answer whatever the way to it."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.examples import examples

from quantrecipe.allocate.knapsack import optimise as module
from quantrecipe.allocate.knapsack.bound import best_bound
from quantrecipe.allocate.knapsack.milp import solve, solve_here
from quantrecipe.allocate.knapsack.optimise import optimise
from quantrecipe.allocate.knapsack.option_table import make_table
from quantrecipe.allocate.knapsack.problem import Item, Limit, Option, Solution
from quantrecipe.allocate.knapsack.search import search


def best_by_trying(items: Sequence[Item], limits: Sequence[Limit]) -> float | None:
    """The least cost of all combinations."""
    best = None
    for combination in itertools.product(*(item.options for item in items)):
        used = [sum(option.uses[b] for option in combination) for b in range(len(limits))]
        if all(use <= limit.most for use, limit in zip(used, limits, strict=True)):
            cost = math.fsum(option.cost for option in combination)
            best = cost if best is None else min(best, cost)
    return best


@st.composite
def problems(draw: st.DrawFn, most_limits: int = 3) -> tuple[list[Item], list[Limit]]:
    """Small ones, with few different sizes and costs, so that ties are common."""
    n = draw(st.integers(1, most_limits))
    use = st.one_of(st.integers(0, 6), st.integers(0, 400).map(lambda k: 32 * k))
    cost = st.one_of(st.integers(0, 4).map(float), st.floats(-10, 1000, allow_nan=False))
    option = st.builds(
        lambda cost, uses: Option(name="", cost=cost, uses=tuple(uses)),
        cost,
        st.lists(use, min_size=n, max_size=n),
    )
    items = draw(st.lists(st.lists(option, min_size=1, max_size=4), min_size=1, max_size=5))
    limits = draw(st.lists(st.integers(0, 30_000), min_size=n, max_size=n))
    return (
        [Item(name=str(i), options=tuple(options)) for i, options in enumerate(items)],
        [Limit(name=str(b), most=most) for b, most in enumerate(limits)],
    )


def check(solution: Solution | None, items: Sequence[Item], limits: Sequence[Limit]) -> None:
    best = best_by_trying(items, limits)
    if best is None:
        assert solution is None
        return
    assert solution is not None
    span = sum(max(abs(option.cost) for option in item.options) for item in items)
    assert solution.cost == pytest.approx(best, abs=1e-12 * (1 + span))
    assert solution.bound <= solution.cost
    chosen = [item.options[number] for item, number in zip(items, solution.choices, strict=True)]
    assert solution.uses == tuple(sum(option.uses[b] for option in chosen) for b in range(len(limits)))
    assert all(use <= limit.most for use, limit in zip(solution.uses, limits, strict=True))


@settings(max_examples=examples(120), deadline=None)
@given(problems())
def test_the_best_of_all_combinations(problem: tuple[list[Item], list[Limit]]) -> None:
    check(optimise(*problem), *problem)


@settings(max_examples=examples(50), deadline=None)
@given(problems())
def test_highs_finds_it_too(problem: tuple[list[Item], list[Limit]]) -> None:
    items, limits = problem
    table = make_table(items, limits)
    if (table.most < 0).any() or (bound := best_bound(table)) is None:
        assert best_by_trying(items, limits) is None
        return
    found = solve_here(table, bound, np.arange(len(table.cost)))
    best = best_by_trying(items, limits)
    assert (found.choice is None) == (best is None)
    if found.choice is not None and best is not None:
        chosen = [items[i].options[number] for i, number in enumerate(table.number[found.choice])]
        span = sum(max(abs(option.cost) for option in item.options) for item in items)
        assert math.fsum(option.cost for option in chosen) == pytest.approx(best, abs=1e-5 * (1 + span))
        assert found.bound <= found.cost


@settings(max_examples=examples(50), deadline=None)
@given(problems())
@example(
    (
        [
            Item(
                name="0",
                options=(Option(name="", cost=0.0, uses=(0,)), Option(name="", cost=5e-324, uses=(0,))),
            )
        ],
        [Limit(name="0", most=0)],
    )
)
def test_the_bound_is_one(problem: tuple[list[Item], list[Limit]]) -> None:
    items, limits = problem
    best = best_by_trying(items, limits)
    table = make_table(items, limits)
    if best is None or (table.most < 0).any():
        return
    bound = best_bound(table)
    assert bound is not None
    cheapest = math.fsum(min(option.cost for option in item.options) for item in items)
    assert bound.value * table.unit <= best - cheapest + 1e-9 * (1 + abs(best))


def test_highs_prints_nothing(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of its versions do, whatever they are told, and standard output may be JSON."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os; os.write(1, b'run();'); atexit.register(os.write, 1, b'run();')", encoding="utf-8"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    items, limits = model_like(20, limits=2, seed=3)
    table = make_table(items, limits)
    bound = best_bound(table)
    assert bound is not None
    options = np.arange(len(table.cost))
    found, here = solve(table, bound, options), solve_here(table, bound, options)
    assert found.choice is not None
    assert (found.cost, found.bound, found.choice.tolist()) == (here.cost, here.bound, here.choice.tolist())
    assert capfd.readouterr().out == ""


def model_like(
    n: int, *, limits: int = 1, seed: int = 0, share: float = 0.3
) -> tuple[list[Item], list[Limit]]:
    """Tensors of a few sizes in 12 types, losing 6 dB a bit, more or less."""
    rng = np.random.default_rng(seed)
    bits = np.array([2.0625, 2.5625, 3.0625, 3.4375, 3.4375, 4.25, 4.5, 5.0, 5.5, 6.0, 6.5625, 8.5])
    items = []
    for number in range(n):
        weights = int(rng.choice([1 << 20, 1 << 22, 7 << 20]))
        alpha = float(rng.lognormal(0, 1)) * weights**0.5
        costs = alpha * 4.0**-bits * np.exp(rng.normal(0, 0.1, len(bits)))
        sizes = (weights * bits / 8).astype(int)
        uses = [sizes, sizes * rng.integers(0, 2), sizes // 3][:limits]
        items.append(
            Item(
                name=str(number),
                options=tuple(
                    Option(name=str(o), cost=float(costs[o]), uses=tuple(int(use[o]) for use in uses))
                    for o in range(len(bits))
                ),
            )
        )
    return items, [
        Limit(
            name=str(b),
            most=sum(
                int(
                    (1 - share) * min(o.uses[b] for o in it.options)
                    + share * max(o.uses[b] for o in it.options)
                )
                for it in items
            ),
        )
        for b in range(limits)
    ]


@pytest.mark.parametrize("n", [60, 600, 5000])
def test_models_are_solved_to_the_end(n: int) -> None:
    solution = optimise(*model_like(n))
    assert solution is not None
    assert solution.gap == 0.0


def test_several_limits_of_a_model() -> None:
    items, limits = model_like(300, limits=3)
    solution = optimise(items, limits)
    assert solution is not None
    assert solution.gap < 1e-4
    assert all(use <= limit.most for use, limit in zip(solution.uses, limits, strict=True))


def test_a_search_that_is_cut_short_says_how_much_it_may_have_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    items, limits = model_like(200, seed=5)
    exact = optimise(items, limits)
    assert exact is not None
    for name in ("_WIDE", "_NARROW"):
        monkeypatch.setattr(module, name, 2)
    monkeypatch.setattr(
        module, "solve", lambda table, bound, options: module.Found(choice=None, cost=math.inf, bound=0.0)
    )
    short = optimise(items, limits)
    assert short is not None
    assert short.cost >= exact.cost >= short.bound
    assert 0.0 < short.gap < 0.01


def test_the_search_doesn_t_need_a_good_start() -> None:
    """From no better knowledge than that everything is allowed."""
    items, limits = model_like(40)
    table = make_table(items, limits)
    bound = best_bound(table)
    assert bound is not None
    found = search(table, bound, np.arange(len(table.cost)), worth=math.inf, room=200_000)
    solution = optimise(items, limits)
    assert solution is not None
    assert found.choice is not None
    assert found.complete
    assert int(table.cost[found.choice].sum()) == found.cost
    assert [int(number) for number in table.number[found.choice]] == list(solution.choices)


def test_of_equal_costs_the_smaller_wins() -> None:
    options = (Option(name="large", cost=1.0, uses=(9,)), Option(name="small", cost=1.0, uses=(7,)))
    solution = optimise([Item(name="a", options=options)], [Limit(name="size", most=20)])
    assert solution is not None
    assert solution.names([Item(name="a", options=options)]) == ["small"]


def test_the_same_answer_every_time() -> None:
    problem = model_like(300, limits=2, seed=7)
    assert optimise(*problem) == optimise(*problem)


def test_prices_say_what_a_little_more_saves() -> None:
    items, limits = model_like(2000)
    solution = optimise(items, limits)
    more = 3_000_000
    richer = optimise(items, [Limit(name="size", most=limits[0].most + more)])
    assert solution is not None
    assert richer is not None
    assert solution.cost - richer.cost == pytest.approx(solution.prices[0] * more, rel=0.05)


def test_nothing_keeps_the_limit() -> None:
    items, _ = model_like(5)
    least = sum(min(option.uses[0] for option in item.options) for item in items)
    assert optimise(items, [Limit(name="size", most=least - 1)]) is None
    assert optimise(items, [Limit(name="size", most=least)]) is not None


def test_limits_that_no_choice_keeps_together() -> None:
    """Each alone is possible."""
    options = (Option(name="a", cost=0, uses=(1, 9)), Option(name="b", cost=0, uses=(9, 1)))
    items = [Item(name=str(n), options=options) for n in range(3)]
    assert optimise(items, [Limit(name="x", most=10), Limit(name="y", most=10)]) is None


def test_without_limits_everything_is_as_good_as_can_be() -> None:
    items, _ = model_like(5)
    solution = optimise(items, [])
    assert solution is not None
    assert solution.names(items) == ["11"] * 5


def test_costs_must_be_numbers() -> None:
    item = Item(name="a", options=(Option(name="x", cost=math.nan, uses=(1,)),))
    with pytest.raises(ValueError, match="finite"):
        optimise([item], [Limit(name="size", most=1)])


@settings(max_examples=50, deadline=None)
@given(problems())
def test_a_second_narrow_search_changes_no_answer(problem: tuple[list[Item], list[Limit]]) -> None:
    """It is for problems with thousands of options; here it looks further at every one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MANY", 0)
        check(optimise(*problem), *problem)
