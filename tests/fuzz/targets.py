"""What is fuzzed: each target takes bytes, and raises for what should not be. See `answers` for what that is."""

from __future__ import annotations

from fuzz import models, notes, recipes, texts
from fuzz.answers import Target

__all__ = ["TARGETS"]

TARGETS: dict[str, Target] = {
    target.__name__: target for part in (recipes, models, notes, texts) for target in part.TARGETS
}
