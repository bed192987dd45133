"""The hooks: what this package adds to quantrecipe. Importing it is quick; kernels are compiled when first used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from quantrecipe.api import Analysis, QuantFormat, RecipeFolder, hookimpl

from quantrecipe_example.large_errors import LargeErrors
from quantrecipe_example.q4_96 import Q4_96

__all__ = ["Q4_96", "LargeErrors"]

QUANTRECIPE_API = 1
"""The version of the plugin interface that this package is written for."""


@hookimpl
def quantrecipe_formats() -> Iterable[QuantFormat]:
    """The format."""
    return [Q4_96()]


@hookimpl
def quantrecipe_analyses() -> Iterable[Analysis]:
    """The analysis."""
    return [LargeErrors()]


@hookimpl
def quantrecipe_recipes() -> Iterable[RecipeFolder]:
    """`example/NAME` in `extends` and on the command line."""
    return [RecipeFolder(prefix="example", folder=Path(__file__).parent / "recipes")]
