"""Which types `fit` chooses from, where nobody says."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from quantrecipe.errors import PlanError
from quantrecipe.recipe.target import Target
from quantrecipe.registry import Registry
from quantrecipe.targets.table import load_targets

__all__ = ["offered_types", "running_types"]

_NOT_UNASKED = {
    "F32": "no smaller than the source",
    "F16": "no smaller than the source",
    "BF16": "no smaller than the source",
    "Q4_0": "larger than IQ4_NL for what it loses",
    "Q4_1": "larger than Q4_K for what it loses",
    "TQ1_0": "for weights that were trained to be ternary",
    "TQ2_0": "for weights that were trained to be ternary",
    "Q1_0": "for weights that were trained to be binary",
    "Q2_0": "for weights that were trained to be of two bits",
    "MXFP4": "for weights that were trained in it",
    "NVFP4": "for weights that were trained in it",
}
"""Types that nobody is given without asking for them, and why."""


def offered_types(registry: Registry, patterns: Sequence[str], target: Target | None) -> tuple[str, ...]:
    """Names, the smallest first. `patterns`: names or globs, of which each must find something.

    Without patterns: what runs well on the target; without one, what llama.cpp runs well on some device.
    """
    codecs = {name: fmt.spec for name, fmt in registry.formats.items() if fmt.spec.codec}
    if patterns:
        found = set()
        for pattern in patterns:
            here = [name for name in codecs if fnmatchcase(name.upper(), pattern.upper())]
            if not here:
                problem = registry.missing_format(pattern)
                raise PlanError(problem.what, problem.remedy)
            found.update(here)
    else:
        found = set(running_types(registry, target)) - _NOT_UNASKED.keys()
        if not found:
            raise PlanError("there is no type that runs well on the target", "name some with --types")
    return tuple(sorted(found, key=lambda name: (codecs[name].bits_per_weight, name)))


def running_types(registry: Registry, target: Target | None) -> frozenset[str]:
    """What runs well on the target; without one, what llama.cpp runs well on some device."""
    table = load_targets()
    engine, build, device = ("llama.cpp", None, None)
    if target is not None:
        engine, build, device = target.engine, target.build, target.device
    return frozenset(
        name
        for name, fmt in registry.formats.items()
        if fmt.spec.codec
        and (fmt.spec.dialect == "ggml" or engine == "ik_llama.cpp")
        and table.runs(engine, build, device, name).speed in ("fast", "unknown")
    )
