"""Measuring: losses by sampling rows, sensitivities by probing the real engine; into a sensitivity file."""

from __future__ import annotations

from quantrecipe.measure.measure_model import measure
from quantrecipe.measure.measurement import (
    DEFAULT_SAMPLE,
    Measurement,
    Scope,
    Subject,
    choose_types,
    scope_of,
)
from quantrecipe.measure.passes import RESIDENT_TYPES, Passes

__all__ = [
    "DEFAULT_SAMPLE",
    "RESIDENT_TYPES",
    "Measurement",
    "Passes",
    "Scope",
    "Subject",
    "choose_types",
    "measure",
    "scope_of",
]
