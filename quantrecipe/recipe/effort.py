"""Effort: how much work a recipe may make, for whoever loads it and plans with it.

Recipes come from strangers, and each piece of one is bounded: patterns, expressions, layers. Effort bounds their sum,
over all files that extend each other. The unit is about a microsecond of loading; what costs more when a model is
planned weighs more. A shipped recipe comes to some thousands, a rule for each of 1,000 tensors to 100,000.
"""

from __future__ import annotations

from quantrecipe.errors import RecipeError

__all__ = ["Effort"]

_MAX_EFFORT = 400_000
_MAX_BYTES = 2 << 20
_REMEDY = "write fewer rules for more tensors: roles, layers and wildcards instead of lists"


class Effort:
    """A purse that patterns, expressions and layers are paid from; RecipeError where it is empty."""

    def __init__(self) -> None:
        self._left = _MAX_EFFORT
        self._bytes_left = _MAX_BYTES

    def spend(self, cost: int) -> None:
        """Pay for a piece."""
        self._left -= cost
        if self._left < 0:
            raise RecipeError("the recipe is too much work: its patterns, layers and expressions", _REMEDY)

    def read(self, nbytes: int) -> None:
        """Pay for a file."""
        self._bytes_left -= nbytes
        if self._bytes_left < 0:
            raise RecipeError(f"the recipes that extend each other have more than {_MAX_BYTES >> 20} MiB")
