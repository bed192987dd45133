"""Sensitivity: what each type costs each tensor, as measured, or as a prior has it."""

from __future__ import annotations

from quantrecipe.sensitivity.file import read_sensitivity, write_sensitivity
from quantrecipe.sensitivity.nominal import nominal_error
from quantrecipe.sensitivity.prior import estimate, prior_alphas
from quantrecipe.sensitivity.sensitivity import Loss, Probed, Provenance, Sensitivity, TensorSensitivity

__all__ = [
    "Loss",
    "Probed",
    "Provenance",
    "Sensitivity",
    "TensorSensitivity",
    "estimate",
    "nominal_error",
    "prior_alphas",
    "read_sensitivity",
    "write_sensitivity",
]
