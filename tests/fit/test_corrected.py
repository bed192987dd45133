"""What measured mixes teach the estimate, and the neighbours of a mix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.mixes import known

from quantrecipe.fit import Fitted, Request, fit
from quantrecipe.fit.corrected import Corrected, Types
from quantrecipe.model.open_model import open_model
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.origin import Origin
from quantrecipe.registry import Registry, load_registry

TINY = Path(__file__).parents[2] / "examples/tiny-code"
Q, HEAD = "blk.1.attn_q.weight", "token_embd.weight"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def fitted(registry: Registry) -> Fitted:
    model = open_model(TINY, registry=registry)
    budget = Budget(origin=Origin(file="test", line=0), bpw=4.5)
    request = Request(name="x", budget=budget, types=("Q3_K", "Q4_K", "Q5_K", "Q8_0"))
    return fit(model, request, registry, sensitivity=known(model, registry), stock={})


@pytest.fixture
def corrected(fitted: Fitted, registry: Registry) -> Corrected:
    return Corrected(fitted.mixer, known(fitted.mixer.model, registry))


@pytest.fixture
def types(fitted: Fitted, corrected: Corrected) -> Types:
    return corrected.types_of(fitted.fitted_plan)


def test_exchanges_keep_what_is_left_and_the_best_come_first(
    fitted: Fitted, corrected: Corrected, types: Types
) -> None:
    (limit,) = fitted.mixer.rules.limits
    room = limit.most - limit.whole(fitted.fitted_plan)
    pairs = list(corrected.exchanges(types, [room]))
    assert len(pairs) > 20
    gains = [sum(move.loss for move in pair) for pair in pairs]
    assert gains == sorted(gains)
    for pair in pairs:
        assert sum(move.uses[0] for move in pair) <= room
        assert pair[0].loss < 0 and pair[0].uses[0] > room  # the first alone would be too much
        assert len(pair) == 2 and pair[1].loss > 0 and pair[1].name != pair[0].name
    alone = list(corrected.exchanges(types, [1 << 40]))
    assert any(len(pair) == 1 for pair in alone)


def test_a_move_takes_what_its_type_takes_more(fitted: Fitted, registry: Registry, types: Types) -> None:
    """Of a limit of time, a type of fewer bytes may take more."""
    nanoseconds = {"Q3_K": 50, "Q4_K": 20, "Q5_K": 31, "Q8_0": 43}
    (limit,) = fitted.mixer.rules.limits
    timed = replace(limit, takes=lambda tensor, nbytes, type_: nanoseconds[type_])
    mixer = replace(fitted.mixer, rules=replace(fitted.mixer.rules, limits=[timed]))
    moves = [
        move
        for pair in Corrected(mixer, known(mixer.model, registry)).exchanges(types, [1 << 40])
        for move in pair
    ]
    assert {move.type for move in moves} == nanoseconds.keys()
    for move in moves:
        assert move.uses == (nanoseconds[move.type] - nanoseconds[types[move.name]],)


def test_a_neighbour_is_the_nearest_type(corrected: Corrected) -> None:
    assert corrected.moved([Q], {Q: "Q5_K"}) == ("down", {Q: "Q4_K"})
    assert corrected.moved([Q], {Q: "Q3_K"}) == ("up", {Q: "Q4_K"})
    corrected.drop("Q4_K")
    assert corrected.moved([Q], {Q: "Q5_K"}) == ("down", {Q: "Q3_K"})


def test_what_a_group_did_is_learned_as_far_as_it_is_sure(corrected: Corrected) -> None:
    before = corrected.loss(Q, "Q3_K"), corrected.loss(HEAD, "Q3_K")
    corrected.correct([Q], change=0.002, error=1e-5, expected=0.001)
    assert 1.5 * before[0] < corrected.loss(Q, "Q3_K") < 2 * before[0]
    assert corrected.loss(HEAD, "Q3_K") == before[1]
    corrected.correct([HEAD], change=0.002, error=0.01, expected=0.001)
    assert before[1] < corrected.loss(HEAD, "Q3_K") < 1.01 * before[1]  # noise
    corrected.correct([HEAD], change=-0.001, error=1e-5, expected=0.001)
    assert corrected.loss(HEAD, "Q3_K") == pytest.approx(before[1] / 4, rel=0.01)  # no further at a time


def test_a_mix_follows_from_what_was_learned(corrected: Corrected, types: Types) -> None:
    before = corrected.types_of(corrected.refitted().plan)
    assert before == types
    corrected.correct([HEAD], change=0.01, error=1e-6, expected=0.0001)
    after = corrected.types_of(corrected.refitted().plan)
    assert after[HEAD] == "Q8_0" != before[HEAD]
    assert "Q4_K" not in corrected.types_of(corrected.refitted("Q4_K").plan).values()
    corrected.drop("Q5_K")
    assert "Q5_K" not in corrected.types_of(corrected.refitted().plan).values()


def test_groups_with_something_at_stake(corrected: Corrected, types: Types) -> None:
    roles = corrected.roles(types)
    stakes = [sum(corrected.loss(name, types[name]) for name in names) for _, names in roles]
    assert stakes == sorted(stakes, reverse=True)
    halves = dict(corrected.halves(types))
    assert all(len(names) == 2 for names in halves.values())
    assert any(what.endswith(", first layers") for what in halves)
