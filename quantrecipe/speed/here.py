"""How fast mixes are on this machine: what `quantrecipe speed` measured here, if it did.

What reads and computes is imported when there is something to read: most machines have no measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantrecipe.memory.device import Settings
    from quantrecipe.model.model import Model
    from quantrecipe.speed.clock import Mixed, Pace
    from quantrecipe.speed.profile import Place, Profile

__all__ = ["pace_here", "speeds_here"]


def speeds_here(model: Model, *, other_gpu: bool = False) -> Mapping[Place, Profile]:
    """What was measured on this machine that is nearest to a model. other_gpu: the GPU isn't this machine's"""
    from quantrecipe.speed.folder import measured_anything

    if not measured_anything():
        return {}
    from quantrecipe.memory.machine import processor_name
    from quantrecipe.speed.kept import find_profiles

    found = find_profiles(model, processor_name())
    return {place: profile for place, profile in found.items() if place == "cpu" or not other_gpu}


def pace_here(
    model: Model, mix: Mixed, speeds: Mapping[Place, Profile], settings: Settings | None = None
) -> Pace | None:
    """How fast a mix is here; None where nothing was measured.

    settings: how it is run; None for all layers on the GPU where that was measured, else on the processor
    """
    if not speeds:
        return None
    from quantrecipe.memory.device import Division, Settings
    from quantrecipe.speed.clock import Clock

    division = Division(model, settings or Settings(layers=None if "gpu" in speeds else 0))
    return Clock(model, speeds).pace(mix, lambda tensor: "cpu" if division.place(tensor) == "cpu" else "gpu")
