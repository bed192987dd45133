"""Error feedback for a whole model: statistics collected behind what is quantized already, and never a worse file.

with tried(plan, plain, texts, folder=folder, registry=registry) as trial:
    trial.plan, trial.file      # the one that is better on held-out text

behind = Quantized(recipe=recipe, plan_of=plan_of, held=path, registry=registry, wanted=4)
grams = compute_gram(path, domains, folder, behind=behind)
apply_plan(plan_of(grams), "out.gguf")

groups = find_dampings(plan, path, texts, registry=registry)
damped_recipe("mine.yaml", "damped", plan, groups)
"""

from quantrecipe.refine.damping import (
    DAMPINGS,
    DampedGroup,
    DampingTried,
    damped_recipe,
    find_dampings,
    groups_of,
)
from quantrecipe.refine.stages import Quantized
from quantrecipe.refine.trial import Trial, tried

__all__ = [
    "DAMPINGS",
    "DampedGroup",
    "DampingTried",
    "Quantized",
    "Trial",
    "damped_recipe",
    "find_dampings",
    "groups_of",
    "tried",
]
