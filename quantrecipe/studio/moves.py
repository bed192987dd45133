"""A goal of the slider → the mix that loses least within it, and the recipe that says so.

While the slider moves, `moved` allocates types, by what is known of the model already. When it rests, `frozen` makes
the recipe of the same mix, as `fit` would. The file has its recipe in it: where the goal is the size of the file, room
is left for that (`Opened.room`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from msgspec import Meta

from quantrecipe.allocate.allocate import choose
from quantrecipe.allocate.limits import Meter, meters
from quantrecipe.errors import PlanError
from quantrecipe.fit.stock import Mix, Rules
from quantrecipe.memory.device import Settings
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.spending import Spending
from quantrecipe.recipe.budget import KV_TYPES, Budget, VramBudget
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.studio.editing import recipe_of
from quantrecipe.studio.opened import ORIGIN, Opened
from quantrecipe.typed import Record

__all__ = ["Frozen", "Goal", "Moved", "frozen", "learn_room", "moved"]

_LARGEST = 1 << 60  # bytes: more than any machine has
_MOST_BITS = 64.0
_ROUNDS = 4
"""Times that a recipe is made, at most, until it has room in its file."""
_SPARE = 1.3
"""How much longer recipes of other mixes may be than one of the middle."""
_ROOM, _ROOM_SHARE = 8192, 100_000
"""Bytes that are left at least, where they are so small a share of the file that nobody misses them. Recipes of Qwen3.6
27B's mixes have 900 to 3,200 bytes."""


class Goal(Record):
    """What is asked for: bytes of the file, bits per weight, or bytes of the GPU's memory; and how the model is run."""

    kind: Literal["size", "bits", "vram"]
    value: Annotated[float, Meta(gt=0, le=_LARGEST)]
    context: Annotated[int, Meta(ge=1, le=1 << 30)] | None = None
    kv: Annotated[str, Meta(max_length=20)] | None = None

    @property
    def settings(self) -> Settings:
        """How the model is run. PlanError for a type that the KV cache can't have."""
        kv = (self.kv or "f16").lower()
        if kv not in KV_TYPES:
            raise PlanError(f"the KV cache can't be {self.kv}", f"its types are {', '.join(KV_TYPES)}")
        return Settings(context=self.context or 4096, kv=kv)

    @property
    def budget(self) -> Budget:
        """The same as a recipe's budget."""
        budget = Budget(origin=ORIGIN)
        if self.kind == "size":
            return replace(budget, size=int(self.value))
        if self.kind == "bits":
            return replace(budget, bpw=min(_MOST_BITS, self.value))
        settings = self.settings
        vram = VramBudget(total=int(self.value), context=settings.context, kv=settings.kv)
        return replace(budget, vram=vram)


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """The mix for a goal.

    limit:  what stopped it, in a sentence; "" where it is the best one within the goal
    rival:  the best preset that keeps the same limit
    rules:  what a preset has to keep, to be a rival
    """

    plan: Plan
    spending: Spending
    budget: Budget
    limit: str
    rival: Mix | None
    rules: Rules


def moved(opened: Opened, goal: Goal) -> Moved:
    """The best mix within a goal. Where the goal can't be kept, or is more than is needed, the nearest one."""
    budget = goal.budget
    limits = meters(budget, opened.model)
    rival = opened.rival(_keeping(opened, limits))
    view, items = opened.view(rival, goal.kind, budget)
    limit = ""
    try:
        plan = choose(view, _with_room(budget, opened.room), items=items, tell_gains=False)
    except PlanError as error:
        plan, limit = _nearest(opened, limits, opened.room), error.problems[0].what
    return Moved(
        plan=plan,
        spending=plan.spending or _spending(opened, plan),
        budget=budget,
        limit=limit,
        rival=rival,
        rules=Rules(limits=limits, floors=(), ties=(), types=None),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Frozen:
    """The mix for a goal as a recipe: its text, and what that makes of the model."""

    moved: Moved
    text: str
    recipe: Recipe
    plan: Plan


def frozen(opened: Opened, goal: Goal) -> Frozen:
    """The same mix as a recipe. It is another one only where the recipe is longer than there was room for."""
    found = moved(opened, goal)
    for _ in range(_ROUNDS):
        mixer = opened.mixer(found.budget, found.rules, found.rival)
        _, made = mixer.frozen(found.plan, found.spending, found.budget)
        recipe = recipe_of(opened, made.text, Path())  # as it will be read; it names no other files
        plan = opened.plan(recipe)
        over = 0 if found.budget.size is None else plan.nbytes - found.budget.size
        if over <= 0 or found.limit:
            break
        opened.room += over
        found = moved(opened, goal)
    return Frozen(moved=found, text=made.text, recipe=recipe, plan=plan)


def learn_room(opened: Opened) -> None:
    """Find out how much room a recipe takes in its file: that of a mix halfway between the smallest and the best."""
    ends = [sum(a.nbytes for a in plan.assignments) for plan in (opened.smallest, opened.best)]
    weights = sum(tensor.size for tensor in opened.model.tensors)
    made = frozen(opened, Goal(kind="bits", value=max(1e-3, 4 * sum(ends) / weights)))
    needed = round(_SPARE * max(0, made.plan.nbytes - made.moved.plan.nbytes))
    opened.room = max(needed, min(_ROOM, opened.smallest.nbytes // _ROOM_SHARE))


def _keeping(opened: Opened, limits: Sequence[Meter]) -> tuple[Mix, ...]:
    return tuple(
        mix for mix in opened.presets if all(_whole(opened, mix, meter) <= meter.most for meter in limits)
    )


def _whole(opened: Opened, mix: Mix, meter: Meter) -> int:
    """What a preset uses of a limit."""
    if meter.key == "bpw":
        return mix.nbytes
    return meter.whole(mix.plan)


def _with_room(budget: Budget, room: int) -> Budget:
    return budget if budget.size is None else replace(budget, size=max(1, budget.size - room))


def _nearest(opened: Opened, limits: Sequence[Meter], room: int) -> Plan:
    """The best types, where they keep the limits; else the smallest."""
    best = opened.best
    keeps = all(meter.whole(best) + (room if meter.key == "size" else 0) <= meter.most for meter in limits)
    return best if keeps else opened.smallest


def _spending(opened: Opened, plan: Plan) -> Spending:
    """The spending of a plan for which nothing had to be chosen."""
    open_to = opened.open_.open_to
    losses = {
        a.tensor.name: 0.0 if a.copied else opened.losses.of(a.tensor.name, a.format.spec)
        for a in plan.assignments
        if a.tensor.name in open_to
    }
    loss = fsum(losses.values())
    return Spending(
        limits=(), loss=loss, bound=loss, source=opened.losses.source, losses=MappingProxyType(losses)
    )
