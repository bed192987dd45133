"""margin: how much less a fitted mix has to be expected to lose than a preset, to be trusted more.

Both are judged by one estimate, but the fitted mix was chosen by it: it has what the estimate is wrong about in its
favour, and presets don't. How much that is depends on how many alphas were measured.
"""

from __future__ import annotations

from quantrecipe.sensitivity.sensitivity import PRIOR, Sensitivity

__all__ = ["margin"]

_MEASURED = 0.05
"""Where every tensor's alpha was measured. docs/quality.md: fitted mixes expected to lose a tenth less did so."""
_GUESSED = 0.17
"""Where none was. There, mixes expected to lose up to 15 % less lost up to 10 % more."""


def margin(sensitivity: Sensitivity | None) -> float:
    """By which share of the preset's expected loss a fitted mix has to be better."""
    known = 0.0
    if sensitivity is not None and sensitivity.tensors:
        tensors = sensitivity.tensors.values()
        weighed = sum(tensor.alpha_source != PRIOR for tensor in tensors)
        # Probes of groups say something of all their tensors, but not of each.
        passes = len(sensitivity.probes) if sensitivity.probes else weighed
        known = min(weighed, passes) / len(tensors)
    return _MEASURED + (_GUESSED - _MEASURED) * (1 - known)
