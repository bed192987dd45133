"""Gram matrices of the inputs of a model's matrices, E[x xᵀ]: what rounding with error feedback needs.

grams = compute_gram("model.bf16.gguf", [(domain, render(domain, template))], "grams")
grams = read_gram("grams")
grams["blk.0.attn_q.weight"]      # float32 (columns, columns)
"""

from quantrecipe.calibration.gram.collect import Experts, GramInput
from quantrecipe.calibration.gram.compute import Behind, GramPlan, compute_gram
from quantrecipe.calibration.gram.folder import GramEntry, Grams, read_gram

__all__ = ["Behind", "Experts", "GramEntry", "GramInput", "GramPlan", "Grams", "compute_gram", "read_gram"]
