"""How fast mixes are on this machine, for the commands that plan them, as they print it; and as a budget's limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quantrecipe.speed.here import pace_here, speeds_here

if TYPE_CHECKING:
    from quantrecipe.memory.device import Settings
    from quantrecipe.model.model import Model
    from quantrecipe.plan.plan import Plan
    from quantrecipe.recipe.budget import SpeedLimit
    from quantrecipe.speed.clock import Pace
    from quantrecipe.speed.profile import Place, Profile
    from quantrecipe.tensor import TensorInfo

__all__ = ["speed_document", "speed_limit", "speed_text"]

_FLOATS = ("F32", "F16", "BF16")
_BASE = "Q8_0"  # is always measured
_NEVER = 10**12
"""Nanoseconds of a matrix in a type that wasn't measured: more than any limit allows."""


def speed_text(plan: Plan, settings: Settings | None) -> str:
    """How fast a plan's file is here, in a sentence; "" where nothing was measured on this machine."""
    speeds = speeds_here(plan.written)
    pace = _of_plan(plan, speeds, settings)
    if pace is None:
        return ""
    from quantrecipe.cli.speed.speed_table import pace_text

    on_gpu = "gpu" in speeds and (settings is None or settings.layers != 0)
    return pace_text(pace, speeds["gpu"] if on_gpu else next(iter(speeds.values())))


def speed_document(plan: Plan, settings: Settings | None) -> dict[str, Any] | None:
    """What is printed of it; None where nothing was measured."""
    speeds = speeds_here(plan.written)
    pace = _of_plan(plan, speeds, settings)
    if pace is None:
        return None
    return {**pace.to_json(), "measured": {place: profile.key for place, profile in speeds.items()}}


def _of_plan(plan: Plan, speeds: Mapping[Place, Profile], settings: Settings | None) -> Pace | None:
    mix = [(a.tensor, a.nbytes, a.type) for a in plan.assignments]
    return pace_here(plan.written, mix, speeds, settings)


def speed_limit(
    model: Model, least: float, settings: Settings | None = None
) -> tuple[SpeedLimit, tuple[str, ...]]:
    """A budget's limit of so many tokens per second here, and the types that were measured and so can keep it.

    EvaluationError where nothing was measured.
    """
    from quantrecipe.errors import EvaluationError
    from quantrecipe.memory.device import Division, Settings
    from quantrecipe.recipe.budget import SpeedLimit
    from quantrecipe.speed.clock import Clock

    speeds = speeds_here(model)
    if settings is None:
        settings = Settings(layers=None if "gpu" in speeds else 0)
    division = Division(model, settings)
    needed: tuple[Place, ...] = ("gpu",) if settings.layers != 0 else ("cpu",)
    if not all(place in speeds for place in needed):
        where = "the GPU's speed" if needed == ("gpu",) else "the speed of types"
        what = f"{where} wasn't measured on this machine, so nobody knows which mix gives {least:g} tokens per second"
        raise EvaluationError(what, f"measure it first: quantrecipe speed {model.path}", file=model.path)
    clock = Clock(model, speeds)

    def takes(tensor: TensorInfo, nbytes: int, type_: str) -> int:
        place: Place = "cpu" if division.place(tensor) == "cpu" else "gpu"
        seconds = clock.seconds(tensor, nbytes, type_, place)
        if seconds is None and type_ in _FLOATS:  # routers and the like, which stay as they are
            seconds = clock.seconds(tensor, nbytes, _BASE, place) or 0.0
        return _NEVER if seconds is None else round(1e9 * seconds)

    limit = SpeedLimit(least=least, takes=takes, constant=round(1e9 * max(map(clock.constant, needed))))
    types = [set(speeds[place].types) for place in needed]
    return limit, tuple(sorted(set.intersection(*types)))
