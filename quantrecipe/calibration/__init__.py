"""Importance matrices, computed: llama.cpp runs texts, and the inputs of its matrices are looked at.

computed = compute_importance("model.bf16.gguf", [(domain, render(domain, template))], "importance.gguf")
"""

from quantrecipe.calibration.collect import Another, Change, Ran, Refill, Saved, Unusable, WorkerNote
from quantrecipe.calibration.compute import (
    CalibrationSettings,
    Computed,
    Prepared,
    UncoveredExperts,
    compute_importance,
    hash_of_files,
    provenance_of,
    sums_path,
)

__all__ = [
    "Another",
    "CalibrationSettings",
    "Change",
    "Computed",
    "Prepared",
    "Ran",
    "Refill",
    "Saved",
    "UncoveredExperts",
    "Unusable",
    "WorkerNote",
    "compute_importance",
    "hash_of_files",
    "provenance_of",
    "sums_path",
]
