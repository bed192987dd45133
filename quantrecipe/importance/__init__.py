"""Importance matrices: how much each input of each tensor matters, as llama-imatrix measured it."""

from quantrecipe.importance.compare import Comparison, TensorChange, compare
from quantrecipe.importance.coverage import Coverage, TensorCoverage, assumed_importance, coverage
from quantrecipe.importance.matrix import Fit, Importance, ImportanceEntry
from quantrecipe.importance.measurement import EncodedImportance, Measurement, measured
from quantrecipe.importance.merge import merged
from quantrecipe.importance.read import read_importance
from quantrecipe.importance.statistics import LayerStatistics, TensorStatistics, by_layer, statistics
from quantrecipe.importance.to_dat import encode_dat
from quantrecipe.importance.to_gguf import encode_gguf

__all__ = [
    "Comparison",
    "Coverage",
    "EncodedImportance",
    "Fit",
    "Importance",
    "ImportanceEntry",
    "LayerStatistics",
    "Measurement",
    "TensorChange",
    "TensorCoverage",
    "TensorStatistics",
    "assumed_importance",
    "by_layer",
    "compare",
    "coverage",
    "encode_dat",
    "encode_gguf",
    "measured",
    "merged",
    "read_importance",
    "statistics",
]
