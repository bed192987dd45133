"""Fit: the recipe that loses least within a budget, written down as rules that a person can review."""

from __future__ import annotations

from quantrecipe.fit.fit import Decision, Fitted, fit
from quantrecipe.fit.request import Request
from quantrecipe.fit.stock import Mix

__all__ = ["Decision", "Fitted", "Mix", "Request", "fit"]
