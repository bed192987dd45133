"""runnable: the types that may be recommended: what the engine runs that the file is for, and what anybody may want.

Every remedy that names types takes them from here. Without a target the engine is mainline llama.cpp, whatever plugins
are installed: a file with a type of another engine is of no use to most.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantrecipe.api import FormatSpec
from quantrecipe.recipe.target import Target
from quantrecipe.registry import Registry
from quantrecipe.targets.targets import load_targets

__all__ = ["NOT_UNASKED", "nearest_types", "running_types"]

NOT_UNASKED: Mapping[str, str] = MappingProxyType(
    {
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
)
"""Types that nobody is given without asking for them, and why."""


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


def nearest_types(bits: float, registry: Registry, target: Target | None) -> list[FormatSpec]:
    """Types to recommend in the place of one with so many bits per weight, the nearest first."""
    names = running_types(registry, target) - NOT_UNASKED.keys()
    specs = [registry.formats[name].spec for name in names]
    return sorted(specs, key=lambda spec: (abs(spec.bits_per_weight - bits), spec.name))
