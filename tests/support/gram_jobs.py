"""Computing Gram matrices as a test does it in its own process, and in one that it kills."""

from __future__ import annotations

from pathlib import Path

from quantrecipe.calibration import CalibrationSettings
from quantrecipe.calibration.gram import GramPlan, compute_gram
from quantrecipe.texts import read_domain, render

__all__ = ["compute_grams"]


def compute_grams(model: str, text: str, folder: str, layers: int | None = None) -> tuple[int, Path]:
    """How many inputs were finished before, and the folder of the matrices."""
    done = [0]

    def hear(what: object) -> None:
        if isinstance(what, GramPlan):
            done[0] = len(what.done)

    domain = read_domain(text)
    settings = CalibrationSettings(chunks=16, contexts=(256,))
    grams = compute_gram(model, [(domain, render(domain, None))], folder, settings, layers=layers, hear=hear)
    return done[0], grams.folder
