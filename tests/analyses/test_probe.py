"""probe: from a model that is known to the last alpha, what so many passes find out; and what they are spent on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np
import pytest
from support.examples import sampled

from quantrecipe.analyses.posterior import Observation, covariance, solve
from quantrecipe.analyses.probe import Probe
from quantrecipe.analyses.probing import STRONGEST
from quantrecipe.api import Effect, Study
from quantrecipe.errors import SensitivityError
from quantrecipe.tensor import TensorInfo

LAYERS = 12
ROLES = ("attn_k", "attn_q", "attn_v", "ffn_down", "ffn_up")
TENSORS = tuple(
    TensorInfo.from_name(name, (64, 64), "BF16")
    for name in (
        "output.weight",
        "token_embd.weight",
        *(f"blk.{layer}.{role}.weight" for layer in range(LAYERS) for role in ROLES),
    )
)
LOSSES = {
    "Q8_0": 3e-5,
    "Q6_K": 3e-4,
    "Q5_K": 0.0013,
    "Q4_K": 0.005,
    "MXFP4": 0.02,
    "Q3_K": 0.021,
    "IQ2_S": 0.08,
}


class Model:
    """Alphas unlike the prior: another scale, roles that differ from it, first layers that matter more."""

    def __init__(self, *, noise: float = 0.0, scale: float = 0.2) -> None:
        rng = np.random.default_rng(5)
        roles = {role: rng.normal(0, 0.6) for role in (*ROLES, "output", "token_embd")}
        self.prior = {t.name: 0.05 if t.layer is not None else 1.0 for t in TENSORS}
        self.alpha = {
            t.name: scale
            * self.prior[t.name]
            * float(np.exp(roles[t.role] + (1.2 if t.layer == 0 else 0) + rng.normal(0, 0.15)))
            for t in TENSORS
        }
        self.asked: list[dict[str, str]] = []
        self.noise = noise

    def evaluate(self, types: Mapping[str, str]) -> Effect:
        self.asked.append(dict(types))
        kld = sum(self.alpha[name] * LOSSES[type_] for name, type_ in types.items())
        off = self.noise * float(np.random.default_rng(len(self.asked)).standard_normal())
        return Effect(kld=kld * (1 + off), standard_error=kld * self.noise)

    def study(self, probes: int, **changes: Any) -> Study:
        settings: dict[str, Any] = {
            "tensors": TENSORS,
            "n_layers": LAYERS,
            "losses": {t.name: LOSSES for t in TENSORS},
            "prior": self.prior,
            "doubt": {t.name: 0.7 for t in TENSORS},
            "probes": probes,
            "evaluate": self.evaluate,
        }
        return Study(**settings | changes)


def off(model: Model, found: Mapping[str, float]) -> float:
    """Root mean square of how far the logarithms are off."""
    return float(np.sqrt(np.mean([np.log(found[name] / alpha) ** 2 for name, alpha in model.alpha.items()])))


def test_more_probes_know_more() -> None:
    errors = []
    for probes in (1, 7, 15, 40, 120):
        model = Model(noise=0.02)
        errors.append(off(model, Probe().weigh(model.study(probes))))
        assert len(model.asked) <= probes
    assert errors == sorted(errors, reverse=True)
    assert off(Model(), Model().prior) > 1.5
    assert errors[1] < 0.55
    assert errors[-1] < 0.08


def test_roles_come_first_then_what_is_at_stake() -> None:
    model = Model()
    Probe().weigh(model.study(20))
    roles = [{name.split(".")[-2] for name in types} for types in model.asked]
    assert {frozenset(role) for role in roles[:7]} == {frozenset({t.role}) for t in TENSORS}
    assert all(len(model.asked[i]) in (1, LAYERS) for i in range(7))
    layers = [{name.split(".")[1] for name in types if name.startswith("blk")} for types in model.asked[7:]]
    assert all(len(found) < LAYERS for found in layers)
    assert any("blk.0." in name for types in model.asked[7:] for name in types)


def test_each_tensor_is_probed_by_itself_where_there_are_enough_probes() -> None:
    model = Model()
    found = Probe().weigh(model.study(100))
    assert sorted(name for types in model.asked for name in types) == sorted(model.alpha)
    assert off(model, found) < 0.02


def test_a_probe_says_something_of_what_was_not_probed() -> None:
    """The whole model turns out five times less sensitive: so do roles that no probe was left for."""
    model = Model()
    found = Probe().weigh(model.study(4))
    unasked = {t.role for t in TENSORS} - {name.split(".")[-2] for types in model.asked for name in types}
    assert unasked
    for tensor in TENSORS:
        if tensor.role in unasked:
            assert found[tensor.name] < 0.6 * model.prior[tensor.name]


def test_noise_moves_little() -> None:
    """An effect that is lost in its standard error changes less than a sure one."""
    k = covariance(TENSORS, {t.name: 0.7 for t in TENSORS}, LAYERS)
    prior = np.full(len(TENSORS), 0.05)
    losses = np.zeros(len(TENSORS))
    losses[5] = 0.02
    moved = [
        solve(prior, k, [Observation(losses=losses, effect=0.0001, noise=noise)]).alpha[5] / 0.05
        for noise in (0.02, 1.0, 5.0)
    ]
    assert moved == sorted(moved)
    assert moved[0] == pytest.approx(0.1, rel=0.02)
    assert moved[2] > 0.7


def test_sums_are_told_apart_by_what_is_known() -> None:
    """The effect of two together, when one of them is known."""
    k = covariance(TENSORS, {t.name: 0.7 for t in TENSORS}, LAYERS)
    prior = np.full(len(TENSORS), 0.05)
    one, both = np.zeros(len(TENSORS)), np.zeros(len(TENSORS))
    one[2], both[[2, 3]] = 0.02, 0.02
    seen = [
        Observation(losses=one, effect=0.002, noise=0.01),
        Observation(losses=both, effect=0.0024, noise=0.01),
    ]
    alpha = solve(prior, k, seen).alpha
    assert alpha[2] == pytest.approx(0.1, rel=0.05)
    assert 0.01 < alpha[3] < 0.035


def test_probes_use_types_whose_error_is_noise() -> None:
    """MXFP4 would be nearer to the loss that is wanted."""
    model = Model()
    Probe().weigh(model.study(12))
    assert not any("MXFP4" in types.values() for types in model.asked)


def test_effects_stay_where_they_add_up() -> None:
    """A model so sensitive that Q3_K would break it is probed with gentler types."""
    model = Model(scale=200.0)
    study = model.study(12, prior=model.alpha)
    Probe().weigh(study)
    effects = [
        sum(model.alpha[name] * LOSSES[type_] for name, type_ in types.items()) for types in model.asked
    ]
    assert np.median(effects) < 5 * STRONGEST
    assert all(type_ != "Q3_K" for type_ in model.asked[0].values())


class Parted(Model):
    """Types have effects of their own in each tensor, and a part of the text is another text."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[int] = []

    def effect(self, types: Mapping[str, str], parts: tuple[int, ...]) -> Effect:
        self.asked.append(dict(types))
        kld = 0.0
        for name, type_ in types.items():
            own = np.random.default_rng([*name.encode(), *type_.encode()]).normal(0, 0.1)
            here = [np.random.default_rng([*name.encode(), part]).normal(0, 0.05) for part in parts]
            kld += self.alpha[name] * LOSSES[type_] * float(np.exp(own + np.mean(here)))
        return Effect(kld=kld, standard_error=0.05 * kld)

    def whole(self, types: Mapping[str, str]) -> Effect:
        return self.effect(types, (0, 1, 2, 3))

    def part(self, types: Mapping[str, str], number: int) -> Effect:
        self.parts.append(number)
        return self.effect(types, (number,))

    def study(self, probes: int, **changes: Any) -> Study:
        return super().study(
            probes, **{"evaluate": self.whole, "evaluate_part": self.part, "parts": 4} | changes
        )


def test_a_part_of_the_text_counts_as_a_part_of_a_probe() -> None:
    model = Parted()
    Probe().weigh(model.study(10))
    assert len(model.asked) == len(model.parts) == 40


def test_what_is_asked_again_has_another_type_and_another_part() -> None:
    model = Parted()
    Probe().weigh(model.study(30))  # 120 parts for 62 tensors
    by_group: dict[frozenset[str], list[tuple[int, Mapping[str, str]]]] = {}
    for number, types in zip(model.parts, model.asked, strict=True):
        by_group.setdefault(frozenset(types), []).append((number, types))
    assert {len(group) for group in by_group} == {1}
    assert len(by_group) == len(TENSORS)
    for group, asked in by_group.items():
        (name,) = group
        assert [number for number, _ in asked] == list(range(len(asked)))
        assert len({types[name] for _, types in asked}) == len(asked)
    assert max(len(asked) for asked in by_group.values()) > 1


@pytest.mark.parametrize("probes", [8, 16, 30])
def test_parts_know_more_than_the_whole_text_in_the_same_time(probes: int) -> None:
    whole, parts = Parted(), Parted()
    by_whole = off(whole, Probe().weigh(whole.study(probes, parts=1)))
    assert not whole.parts
    by_parts = off(parts, Probe().weigh(parts.study(probes)))
    assert by_parts < (0.75 if probes > 8 else 0.95) * by_whole


def test_the_same_answers_give_the_same_alphas() -> None:
    one, other = Model(noise=0.05), Model(noise=0.05)
    assert Probe().weigh(one.study(25)) == Probe().weigh(other.study(25))
    assert one.asked == other.asked


def test_says_what_it_lacks() -> None:
    with pytest.raises(SensitivityError, match="--text"):
        Probe().weigh(Model().study(5, evaluate=None))
    with pytest.raises(SensitivityError, match="--probes"):
        Probe().weigh(Model().study(0))
    exact = {t.name: {"F16": 1e-9} for t in TENSORS}
    with pytest.raises(SensitivityError, match="measure Q3_K"):
        Probe().weigh(Model().study(5, losses=exact))


@pytest.mark.parametrize("probes", [15, 120])
def test_what_will_be_asked_is_guessed_and_changes_nothing(probes: int) -> None:
    """The first guess is sure; of those that follow, most are asked for sooner or later."""
    alone = Model(noise=0.02)
    expected = Probe().weigh(alone.study(probes))
    model = Model(noise=0.02)
    guessed: list[list[dict[str, str]]] = []

    def expect(asks: Iterable[tuple[Mapping[str, str], int | None]]) -> None:
        taken = list(islice(asks, 4))
        assert all(place is None for _, place in taken)
        if taken:  # else all is asked
            guessed.append([dict(types) for types, _ in taken])

    assert Probe().weigh(model.study(probes, expect=expect)) == expected
    assert model.asked == alone.asked
    assert [guess[0] for guess in guessed] == model.asked
    later = [types for guess in guessed for types in guess[1:]]
    assert np.mean([types in model.asked for types in later]) > 0.6


def test_a_guess_says_which_part_of_the_text(probes: int = 15) -> None:
    model = Model()
    asked: list[tuple[dict[str, str], int]] = []
    guessed: list[tuple[dict[str, str], int | None]] = []

    def evaluate_part(types: Mapping[str, str], number: int) -> Effect:
        asked.append((dict(types), number))
        return model.evaluate(types)

    def expect(asks: Iterable[tuple[Mapping[str, str], int | None]]) -> None:
        types, number = next(iter(asks))
        guessed.append((dict(types), number))

    Probe().weigh(model.study(probes, parts=4, evaluate_part=evaluate_part, expect=expect))
    assert guessed == asked
    assert len({number for _, number in asked}) > 1


@pytest.mark.parametrize(("workers", "turns"), sampled([(1, 60), (2, 33), (4, 17), (8, 11)], every=3))
def test_turns_of_workers_that_make_what_is_guessed(workers: int, turns: int) -> None:
    """docs/cluster.md has these numbers: in a turn, what is asked is made, and what is guessed that isn't there yet."""
    model = Model(noise=0.02)
    guesses: list[Any] = []
    made: set[Any] = set()
    taken = 0

    def expect(asks: Iterable[tuple[Mapping[str, str], int | None]]) -> None:
        guesses[:] = [(tuple(sorted(types.items())), place) for types, place in islice(asks, workers)]

    def evaluate_part(types: Mapping[str, str], number: int) -> Effect:
        nonlocal taken
        if (tuple(sorted(types.items())), number) not in made:
            taken += 1
            made.update(guesses)
        return model.evaluate(types)

    Probe().weigh(model.study(15, parts=4, evaluate_part=evaluate_part, expect=expect))
    assert len(model.asked) == 60
    assert taken <= turns
