"""Importance matrices: how much each input of each tensor matters, as llama-imatrix measured it."""

from quantrecipe.importance.coverage import Coverage, TensorCoverage, coverage
from quantrecipe.importance.matrix import Fit, Importance, ImportanceEntry
from quantrecipe.importance.read import read_importance

__all__ = [
    "Coverage",
    "Fit",
    "Importance",
    "ImportanceEntry",
    "TensorCoverage",
    "coverage",
    "read_importance",
]
