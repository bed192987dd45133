"""Request: what fit is asked for; and like_budget, the size of what the result is to be like."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from quantrecipe.fit.open_recipe import Floor
from quantrecipe.plan.group import part_totals
from quantrecipe.plan.plan import Plan
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.recipe import EncoderChoice
from quantrecipe.recipe.target import Target

__all__ = ["LikeBytes", "Request", "like_budget"]

LikeBytes = Literal["tensors", "file", "without-tables"]
"""Which bytes are to be as many as a preset's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What fit is asked for.

    types:   names or globs; none: what runs well on the target
    floors:  what gets nothing smaller
    ties:    patterns of tensors that get one type in each layer
    encoder: what makes the bytes, of the mix and of the presets beside it; None for each format by itself
    asked_in: the command that its recipes say they are made by
    aim:     what mixes are tried for, as recipes say it: "kld 0.01"; "" where nothing is measured on a text
    """

    name: str
    budget: Budget
    types: tuple[str, ...] = ()
    floors: tuple[Floor, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()
    target: Target | None = None
    encoder: EncoderChoice | None = None
    allow_requantize: bool = False
    asked_in: str = "quantrecipe fit"
    aim: str = ""


def like_budget(plan: Plan, budget: Budget, *, of: LikeBytes = "tensors") -> Budget:
    """The budget that allows just the bytes of this plan: of its file, its tensors, or its tables and the rest."""
    if of == "file":
        return replace(budget, size=plan.nbytes)
    if of == "without-tables":
        tables, rest = part_totals(plan)
        return replace(budget, tables=tables.nbytes or None, without_tables=rest.nbytes)
    nbytes = sum(a.nbytes for a in plan.assignments)
    weights = sum(tensor.size for tensor in plan.model.tensors)
    return replace(
        budget, bpw=(8 * nbytes + 4) / weights
    )  # half a byte more, so that rounding takes none away
