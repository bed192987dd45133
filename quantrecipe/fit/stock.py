"""The presets of llama.cpp on one model: their bytes, their expected loss, and which of them rival a fitted mix.

A rival does what was asked for: it keeps all limits, floors and ties, and has no type that wasn't wanted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from quantrecipe.allocate.limits import Meter
from quantrecipe.allocate.losses import Losses
from quantrecipe.errors import QuantrecipeError
from quantrecipe.fit.open_recipe import Floor
from quantrecipe.importance.matrix import Importance
from quantrecipe.model.model import Model
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.plan.statistics import Statistics
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.recipe.terms.pattern import Pattern
from quantrecipe.registry import Registry
from quantrecipe.tensor import head_name

__all__ = [
    "MIXES",
    "PREFIX",
    "Mix",
    "Rules",
    "estimated_loss",
    "mix_of",
    "quantized",
    "recipe_like",
    "rivals",
    "stock_mixes",
    "stock_plan",
    "stock_recipes",
]

PREFIX = "llama.cpp/"
MIXES = (
    "IQ1_S",
    "IQ1_M",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ2_S",
    "IQ2_M",
    "Q2_K_S",
    "Q2_K",
    "IQ3_XXS",
    "IQ3_XS",
    "Q3_K_S",
    "IQ3_S",
    "IQ3_M",
    "Q3_K_M",
    "Q3_K_L",
    "IQ4_XS",
    "IQ4_NL",
    "Q4_0",
    "Q4_K_S",
    "Q4_1",
    "Q4_K_M",
    "Q5_0",
    "Q5_K_S",
    "Q5_1",
    "Q5_K_M",
    "Q6_K",
    "Q8_0",
)
"""What llama-quantize offers for models of floats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """What a preset comes to on this model.

    name:   "Q4_K_M"
    nbytes: of the tensors' data
    loss:   that is expected of it
    """

    name: str
    nbytes: int
    bits_per_weight: float
    loss: float
    plan: Plan


def stock_recipes(registry: Registry) -> Mapping[str, Recipe]:
    """The recipes of all mixes, by their names."""
    return {name: load_recipe(f"{PREFIX}{name}", registry=registry) for name in MIXES}


def stock_mixes(
    recipes: Mapping[str, Recipe],
    model: Model,
    registry: Registry,
    importance: Importance | None,
    losses: Losses,
    *,
    allow_requantize: bool,
    statistics: Statistics | None = None,
) -> tuple[list[Mix], dict[str, str]]:
    """Those that can be made of this model, the smallest first; and by the name of each other one, why it can't."""
    found = []
    left_out: dict[str, str] = {}
    for name, recipe in recipes.items():
        try:
            plan = stock_plan(
                recipe, model, registry, importance, allow_requantize=allow_requantize, statistics=statistics
            )
        except (
            QuantrecipeError
        ) as error:  # needs importance that isn't there, or a type that this model can't have
            left_out[name] = error.problems[0].what
            continue
        found.append(mix_of(name, plan, losses))
    return sorted(found, key=lambda mix: (mix.nbytes, mix.name)), left_out


def mix_of(name: str, plan: Plan, losses: Losses) -> Mix:
    """What a plan comes to, under this name."""
    return Mix(
        name=name,
        nbytes=sum(a.nbytes for a in plan.assignments),
        bits_per_weight=plan.bits_per_weight,
        loss=estimated_loss(plan, losses),
        plan=plan,
    )


def stock_plan(
    recipe: Recipe,
    model: Model,
    registry: Registry,
    importance: Importance | None,
    *,
    allow_requantize: bool,
    statistics: Statistics | None = None,
) -> Plan:
    """The plan of a mix, as llama-quantize would write it. Whose matrix it is, the caller has asked."""
    return make_plan(
        recipe,
        model,
        registry=registry,
        importance=importance,
        importance_of_another_model=True,
        allow_requantize=allow_requantize,
        provenance=False,
        statistics=statistics,
    )


def recipe_like(ref: str, registry: Registry) -> Recipe:
    """The recipe of a preset that is called by its name alone, or any other recipe."""
    return load_recipe(f"{PREFIX}{ref}" if ref in MIXES else ref, registry=registry)


def estimated_loss(plan: Plan, losses: Losses) -> float:
    """What the types of a plan lose together."""
    return fsum(losses.of(a.tensor.name, a.format.spec) for a in quantized(plan))


def quantized(plan: Plan) -> list[Assignment]:
    """The tensors that a plan encodes."""
    return [a for a in plan.assignments if not a.copied and a.owner is None and a.format.spec.codec]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What a mix has to keep. `types`: those that it may have; None: any."""

    limits: Sequence[Meter]
    floors: Sequence[Floor]
    ties: Sequence[Sequence[str]]
    types: Collection[str] | None


def rivals(mixes: Sequence[Mix], rules: Rules, registry: Registry) -> tuple[Mix, ...]:
    """The mixes that keep the rules."""
    return tuple(mix for mix in mixes if _keeps(mix, rules, registry))


def _keeps(mix: Mix, rules: Rules, registry: Registry) -> bool:
    if any(meter.whole(mix.plan) > meter.most for meter in rules.limits):
        return False
    encoded = quantized(mix.plan)
    if rules.types is not None and any(a.type not in rules.types for a in encoded if len(a.tensor.shape) > 1):
        return False
    head = head_name(mix.plan.model.tensors)
    for floor in rules.floors:
        least = registry.formats[floor.type].spec.bits_per_weight
        pattern = Pattern.parse(floor.tensors)
        if any(a.format.spec.bits_per_weight < least for a in encoded if pattern.matches(a.tensor, head)):
            return False
    return all(_tied(encoded, [Pattern.parse(text) for text in tie], head) for tie in rules.ties)


def _tied(encoded: Sequence[Assignment], tie: Sequence[Pattern], head: str | None) -> bool:
    """True where the tensors of each layer have one type."""
    types: dict[int | None, str] = {}
    return all(
        types.setdefault(a.tensor.layer, a.type) == a.type
        for a in encoded
        if any(pattern.matches(a.tensor, head) for pattern in tie)
    )
