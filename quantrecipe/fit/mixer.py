"""Mixer: mixes of one model for one request: the best within a budget by an estimate, or one with given types, frozen.

A mix is a frozen recipe with its plan. Where the budget is of the file, the recipe that is recorded in the file counts.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum
from types import MappingProxyType

from quantrecipe.allocate.candidates import Candidate, candidates
from quantrecipe.allocate.limits import meters
from quantrecipe.allocate.losses import Losses
from quantrecipe.errors import PlanError
from quantrecipe.fit.doubt import doubtful
from quantrecipe.fit.frozen_recipe import Frozen, freeze
from quantrecipe.fit.open_recipe import opened_recipe
from quantrecipe.fit.reasons import reason, reason_text
from quantrecipe.fit.request import Request
from quantrecipe.fit.stock import Mix, Rules, estimated_loss
from quantrecipe.importance.matrix import Importance
from quantrecipe.model.model import Model
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.plan.resolution import PlanSettings, resolve
from quantrecipe.plan.spending import Spending
from quantrecipe.plan.statistics import Statistics
from quantrecipe.planning import make_plan
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.load import load_part
from quantrecipe.recipe.reading.recipe_part import RecipePart
from quantrecipe.recipe.recipe import Recipe, Rule
from quantrecipe.recipe.writing.new_recipe import write_recipe
from quantrecipe.registry import Registry
from quantrecipe.sensitivity.sensitivity import Sensitivity

__all__ = ["Mixer", "wrapped"]

_WIDTH = 108
_ROUNDS = 12
"""Times that a mix is fitted, at most: the file has the recipe in it, too, and its bytes count."""


@dataclass(frozen=True, kw_only=True)
class Mixer:
    """What all mixes of a request share.

    types:  on offer, the smallest first
    rules:  what every mix has to keep
    losses: by which mixes are compared and reasons are told
    best:   the preset beside which mixes are told; None where none keeps the limits
    """

    model: Model
    request: Request
    registry: Registry
    importance: Importance | None
    statistics: Statistics | None
    types: tuple[str, ...]
    losses: Losses
    rules: Rules
    best: Mix | None = None

    def plan(self, recipe: Recipe, sensitivity: Sensitivity | None = None) -> Plan:
        """The plan of a recipe. `sensitivity`: what its `choose` rules go by."""
        return make_plan(
            recipe,
            self.model,
            registry=self.registry,
            importance=self.importance,
            importance_of_another_model=True,  # whose it is, was asked before
            allow_requantize=self.request.allow_requantize,
            sensitivity=sensitivity,
            statistics=self.statistics,
        )

    def fitted(
        self, sensitivity: Sensitivity | None, budget: Budget | None = None
    ) -> tuple[Spending, Frozen]:
        """The mix that loses least by a sensitivity, within the budget: the request's, unless another is given.

        What became of the budget is told in the losses that are expected. PlanError where it can't be kept.
        """
        wanted = budget or self.request.budget
        allowed = wanted
        for _ in range(_ROUNDS):
            chosen = self.plan(self.opened(allowed), sensitivity)
            if chosen.spending is None:
                tensors = chosen.model.tensors
                what = (
                    f"there is nothing to choose: none of its {len(tensors):,} tensors is a matrix that recipes "
                    "quantize"
                )
                raise PlanError(what, "`quantrecipe inspect MODEL` lists them", file=chosen.model.path)
            spending, frozen = self.frozen(chosen, chosen.spending, wanted)
            over = 0 if wanted.size is None else frozen.plan.nbytes - wanted.size
            if over <= 0:
                return spending, frozen
            allowed = replace(allowed, size=chosen.nbytes - over)
        what = "the recipe that is recorded in the file doesn't fit into the budget beside it"
        raise PlanError(what, "allow a few KiB more")

    def open_types(self) -> Mapping[str, tuple[Candidate, ...]]:
        """By the name of each tensor that is open, the types that it may have, the smallest first."""
        resolution = resolve(
            self.opened(self.request.budget),
            self.model,
            self.registry,
            self.importance,
            PlanSettings(allow_requantize=self.request.allow_requantize),
            statistics=self.statistics,
        )
        found = {}
        for decision in resolution.open:
            its = candidates(decision, resolution, self.losses)
            found[decision.tensor.name] = tuple(sorted(its, key=lambda it: (it.nbytes, it.loss)))
        return found

    def plan_of_types(self, types: Mapping[str, str]) -> Plan:
        """The plan that gives tensors these types, by name, whatever it takes."""
        rules = tuple(
            Rule.of([f"regex:^{_escaped(name)}$"], type=type_, optional=True) for name, type_ in types.items()
        )
        name = self.request.name
        _, part = write_recipe(
            RecipePart(
                file=name, name=name, rules=rules, target=self.request.target, encoder=self.request.encoder
            )
        )
        return self.plan(load_part(part, registry=self.registry))

    def with_types(self, types: Mapping[str, str], like: Spending) -> Frozen:
        """The same as a recipe with few rules. like: the spending of another mix, for the same tensors."""
        return self.frozen(self.plan_of_types(types), like, self.request.budget)[1]

    def frozen(self, chosen: Plan, spending: Spending, budget: Budget) -> tuple[Spending, Frozen]:
        """A plan as a recipe with few rules, and its spending in the losses that are expected.

        spending: of the plan, by whatever its types were chosen; it names the tensors that were open
        """
        expected = self.expected(chosen, spending)
        return expected, self._frozen(replace(chosen, spending=expected), expected, budget)

    def opened(self, budget: Budget) -> Recipe:
        """The recipe that leaves the choice among the request's types open, within a budget."""
        request = self.request
        recipe = opened_recipe(
            request.name,
            self.types,
            self.registry,
            budget=budget,
            floors=request.floors,
            ties=request.ties,
            target=request.target,
        )
        return recipe if request.encoder is None else replace(recipe, encoder=request.encoder)

    def _frozen(self, chosen: Plan, spending: Spending, budget: Budget) -> Frozen:
        loss = estimated_loss(chosen, self.losses)
        summary = (
            f"{chosen.model.path.name}, {chosen.bits_per_weight:.3f} bits per weight; "
            f"expected loss {loss:.3g} (KL divergence)"
        )
        return freeze(
            chosen,
            self.request.name,
            self.registry,
            why=self._why,
            plan_of=self.plan,
            summary=summary,
            comments=self._comments(chosen, budget, spending),
            target=self.request.target,
            encoder=self.request.encoder,
            importance=self.importance is not None,
        )

    def _why(self, members: Sequence[Assignment]) -> str:
        return reason_text(reason(members, self.types, self.losses, self.registry))

    def expected(self, plan: Plan, spending: Spending) -> Spending:
        """The spending in what is expected, whatever the types were chosen by."""
        found = {
            a.tensor.name: 0.0 if a.copied else self.losses.of(a.tensor.name, a.format.spec)
            for a in plan.assignments
            if a.tensor.name in spending.losses
        }
        loss = fsum(found.values())
        return replace(
            spending,
            loss=loss,
            bound=loss - (spending.loss - spending.bound),
            source=self.losses.source,
            losses=MappingProxyType(found),
        )

    def _comments(self, plan: Plan, budget: Budget, spending: Spending) -> list[str]:
        told = [f"{meter.key} {meter.text(meter.most)}" for meter in meters(budget, plan.written)]
        within = "" if budget.kld is None else f"kld {budget.kld:.4g}"
        # The loss that is asked of the estimate, while mixes are tried, is none that anybody has asked for.
        limits = ", ".join([*told, *filter(None, [self.request.aim or within])])
        said = [
            f"Made by `{self.request.asked_in}` for {plan.model.path.name} ({plan.model.arch}). Limits: {limits}.",
            f"Expected loss {spending.loss:.3g}, mean KL divergence in nats; losses are from: {self.losses.source}.",
        ]
        if doubtful(self.losses, plan.model):
            said.append(
                "How much tensors matter wasn't measured on this model, but taken as usual: no promise that this is "
                "better than a preset. `quantrecipe fit --text` measures it."
            )
        if self.best is not None and budget.kld is not None:
            name, loss = self.best.name, self.best.loss
            said.append(f"The smallest preset that is expected to stay within it is {name}, with {loss:.3g}.")
        elif self.best is not None:
            said.append(
                f"The best preset within the same limits is {self.best.name}, with {self.best.loss:.3g} by the same "
                "estimate."
            )
        said.append("Reasons say what a rule's tensors lose, and what the nearest other types would change.")
        return [line for text in said for line in wrapped(text)]


def wrapped(text: str) -> list[str]:
    """A comment in lines."""
    return textwrap.wrap(text, _WIDTH, subsequent_indent="  ")


def _escaped(name: str) -> str:
    return name.replace(".", r"\.")
