"""How wrong an estimate may be enters the choice, tensor by tensor."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from quantrecipe.allocate.losses import Losses
from quantrecipe.fit import Fitted, Request, fit
from quantrecipe.fit.doubt import TYPES, Regrets, change_at_worst, doubtful, least_regret, seen_from
from quantrecipe.fit.request import like_budget
from quantrecipe.fit.stock import estimated_loss, mix_of, quantized, recipe_like, stock_plan
from quantrecipe.model.model import Model
from quantrecipe.plan.plan import Plan
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.origin import Origin
from quantrecipe.registry import Registry
from quantrecipe.sensitivity.prior import estimate, prior_alphas
from quantrecipe.sensitivity.sensitivity import Sensitivity

TINY = Path(__file__).parents[2] / "examples/tiny-code"
MIXES = ("Q2_K", "Q3_K_M", "Q4_K_M")


@pytest.fixture(scope="module")
def plans(tiny: Model, registry: Registry) -> dict[str, Plan]:
    return {
        name: stock_plan(recipe_like(name, registry), tiny, registry, None, allow_requantize=False)
        for name in MIXES
    }


def like(plan: Plan, registry: Registry, sensitivity: Sensitivity | None = None) -> Fitted:
    request = Request(name="like", budget=like_budget(plan, Budget(origin=Origin(file="test", line=0))))
    stock = {"it": recipe_like(plan.recipe, registry)}
    return fit(plan.model, request, registry, sensitivity=sensitivity, stock=stock)


def with_alphas(model: Model, registry: Registry, factors: dict[str, float]) -> Sensitivity:
    """Measured, as so many times the prior's."""
    known = estimate(model, registry)
    tensors = {
        name: replace(it, alpha=it.alpha * factors.get(name, 1.0), alpha_source="table")
        for name, it in known.tensors.items()
    }
    return Sensitivity(tensors=tensors)


@pytest.mark.parametrize("name", MIXES)
def test_by_the_prior_alone_a_mix_is_better_in_the_worst_of_worlds(
    name: str, plans: dict[str, Plan], tiny: Model, registry: Registry
) -> None:
    """Whatever gained bits matters as little as may be, and whatever lost some as much."""
    found = like(plans[name], registry)
    assert found.winner is None and found.at_worst is not None
    prior = prior_alphas(tiny.tensors, tiny.n_layers)
    before = {a.tensor.name: a.format.spec.bits_per_weight for a in quantized(plans[name])}
    signs = {
        a.tensor.name: math.copysign(1, before[a.tensor.name] - a.format.spec.bits_per_weight)
        for a in quantized(found.plan)
    }
    worst = {tensor: math.exp(sign * prior[tensor].beside) for tensor, sign in signs.items()}
    losses = Losses(tiny, registry, with_alphas(tiny, registry, worst), {})
    assert estimated_loss(found.plan, losses) < estimated_loss(plans[name], losses)
    assert found.loss < found.at_worst < estimated_loss(plans[name], Losses(tiny, registry, None, {}))


@pytest.mark.parametrize("name", MIXES)
def test_the_head_matters_more_and_the_layers_less_as_in_a_mixture_of_experts(
    name: str, plans: dict[str, Plan], tiny: Model, registry: Registry
) -> None:
    factors = {tensor.name: 1.9 if tensor.layer is None else 0.2 for tensor in tiny.tensors}
    losses = Losses(tiny, registry, with_alphas(tiny, registry, factors), {})
    plan = like(plans[name], registry).plan
    assert estimated_loss(plan, losses) < estimated_loss(plans[name], losses)


def test_what_was_measured_is_not_in_doubt(plans: dict[str, Plan], tiny: Model, registry: Registry) -> None:
    measured = with_alphas(tiny, registry, {})
    assert doubtful(Losses(tiny, registry, None, {}), tiny)
    assert not doubtful(Losses(tiny, registry, measured, {}), tiny)
    found, careful = like(plans["Q3_K_M"], registry, measured), like(plans["Q3_K_M"], registry)
    assert found.at_worst is None
    assert found.loss < careful.loss  # what is surely better is a part of what is
    assert "wasn't measured" in careful.text
    assert "wasn't measured" not in found.text


def test_what_is_said_is_what_is_expected(plans: dict[str, Plan], tiny: Model, registry: Registry) -> None:
    """Types are chosen by what they cost at worst; losses that are told are the estimate's."""
    found = like(plans["Q4_K_M"], registry)
    losses = Losses(tiny, registry, None, {})
    assert found.spending.loss == pytest.approx(estimated_loss(found.fitted_plan, losses))
    assert found.spending.loss == pytest.approx(sum(found.spending.losses.values()))
    assert found.spending.source == losses.source


def test_a_step_from_a_preset(plans: dict[str, Plan], tiny: Model, registry: Registry) -> None:
    losses = Losses(tiny, registry, None, {})
    seen = seen_from(plans["Q4_K_M"], losses, registry)
    name = "blk.1.attn_q.weight"  # Q4_K there
    alpha, doubt = (getattr(prior_alphas(tiny.tensors, 4)[name], key) for key in ("alpha", "beside"))
    d = {type_: losses.of(name, registry.format(type_).spec) / alpha for type_ in ("Q3_K", "Q4_K", "Q6_K")}
    assert seen.cost(name, "Q4_K") == pytest.approx(alpha * d["Q4_K"])
    worse = alpha * (d["Q4_K"] + (d["Q3_K"] - d["Q4_K"]) * math.exp(doubt) + TYPES * d["Q4_K"])
    assert seen.cost(name, "Q3_K") == pytest.approx(worse)
    better = alpha * (d["Q4_K"] + (d["Q6_K"] - d["Q4_K"]) * math.exp(-doubt) + TYPES * d["Q6_K"])
    assert seen.cost(name, "Q6_K") == pytest.approx(better)


def test_what_was_predicted_is_less_sure(plans: dict[str, Plan], tiny: Model, registry: Registry) -> None:
    """A predicted D may be off by more than types of one D are; a measured one isn't asked."""
    name, type_ = "blk.1.attn_q.weight", "Q3_K"
    usual = estimate(tiny, registry)
    its = usual.tensors[name]
    unsure = replace(its.losses[type_], standard_error=0.3 * its.losses[type_].error)
    costs = []
    for predicted in ((), (type_,)):
        tensor = replace(its, losses={**its.losses, type_: unsure}, predicted=predicted)
        losses = Losses(tiny, registry, Sensitivity(tensors={**usual.tensors, name: tensor}), {})
        costs.append(seen_from(plans["Q4_K_M"], losses, registry).cost(name, type_))
    measured, guessed = costs
    assert measured is not None
    assert guessed is not None
    loss = its.alpha * its.losses["Q4_K"].error  # the smaller one of the two
    assert guessed - measured == pytest.approx((math.hypot(TYPES, 0.3) - TYPES) * loss)


def test_the_preset_that_may_lose_least_beside_the_others(
    plans: dict[str, Plan], tiny: Model, registry: Registry
) -> None:
    measured = Losses(tiny, registry, with_alphas(tiny, registry, {}), {})
    mixes = [mix_of(name, plan, measured) for name, plan in plans.items()]
    best = least_regret(mixes, measured)
    assert best is not None and best.name == "Q4_K_M"
    assert least_regret([], measured) is None
    usual = Losses(tiny, registry, None, {})
    assert change_at_worst(plans["Q4_K_M"], plans["Q3_K_M"], usual) < 0
    assert change_at_worst(plans["Q4_K_M"], plans["Q4_K_M"], usual) == 0
    there, back = (change_at_worst(plans[a], plans[b], usual) for a, b in (MIXES[1:], MIXES[:0:-1]))
    assert there > 0 > back


def test_the_head_is_less_sure_beside_the_layers_than_by_itself(tiny: Model) -> None:
    prior = prior_alphas(tiny.tensors, tiny.n_layers)
    assert prior["token_embd.weight"].beside > 1.2 > prior["token_embd.weight"].doubt
    assert prior["blk.0.attn_q.weight"].beside == prior["blk.0.attn_q.weight"].doubt


def test_regrets_of_some_mixes(plans: dict[str, Plan], tiny: Model, registry: Registry) -> None:
    """Compared once, for any choice among them."""
    losses = Losses(tiny, registry, None, {})
    mixes = [mix_of(name, plan, losses) for name, plan in plans.items()]
    regrets = Regrets(mixes, losses)
    for some in (mixes, mixes[:1], mixes[1:], mixes[::2]):
        assert regrets.least(some) == least_regret(some, losses)
    assert regrets.least([]) is None
