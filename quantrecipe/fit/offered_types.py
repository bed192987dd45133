"""Which types `fit` chooses from, where nobody says."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from quantrecipe.errors import PlanError
from quantrecipe.recipe.target import Target
from quantrecipe.registry import Registry
from quantrecipe.targets.runnable import NOT_UNASKED, running_types

__all__ = ["offered_types"]


def offered_types(registry: Registry, patterns: Sequence[str], target: Target | None) -> tuple[str, ...]:
    """Names, the smallest first. `patterns`: names or globs, of which each must find something.

    Without patterns: what runs well on the target; without one, what llama.cpp runs well on some device.
    """
    codecs = {name: fmt.spec for name, fmt in registry.formats.items() if fmt.spec.codec}
    if patterns:
        found = set()
        for pattern in patterns:
            here = [name for name in codecs if fnmatchcase(name.upper(), pattern.upper())]
            # `IQ*` isn't a wish for another engine's types, which may be there with a plugin; their names are.
            foreign = target is not None and target.engine == "ik_llama.cpp"
            here = [name for name in here if foreign or codecs[name].dialect == "ggml"] or here
            if not here:
                problem = registry.missing_format(pattern)
                raise PlanError(problem.what, problem.remedy)
            found.update(here)
    else:
        found = set(running_types(registry, target)) - NOT_UNASKED.keys()
        if not found:
            raise PlanError("there is no type that runs well on the target", "name some with --types")
    return tuple(sorted(found, key=lambda name: (codecs[name].bits_per_weight, name)))
