"""Error feedback for a whole model: statistics collected behind what is quantized already, and never a worse file.

with tried(plan, plain, texts, folder=folder, registry=registry) as trial:
    trial.plan, trial.file      # the one that is better on held-out text

grams = refine(model, domains, folder, planned, stages=4)
"""

from quantrecipe.refine.trial import Trial, tried

__all__ = ["Trial", "tried"]
