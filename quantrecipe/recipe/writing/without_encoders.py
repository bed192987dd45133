"""without_encoders: the same recipe with each format making its bytes by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from quantrecipe.recipe.recipe import Recipe
from quantrecipe.recipe.writing.flatten import recipe_text
from quantrecipe.recipe.writing.recipe_digest import recipe_digest

__all__ = ["without_encoders"]


def without_encoders(recipe: Recipe) -> Recipe:
    """The recipe without any `encoder`. Its text and its digest say so, so that a file of it can be verified."""
    rules = tuple(replace(rule, encoder=None) for rule in recipe.rules)
    plain = replace(recipe, encoder=None, rules=rules)
    matrix = recipe.importance.file
    return replace(
        plain,
        text=recipe_text(plain, None if matrix is None else _beside(matrix, Path(recipe.file))),
        digest=recipe_digest(plain),
    )


def _beside(matrix: Path, recipe: Path) -> str:
    """The matrix as the recipe may have written it; by its name alone where it lies elsewhere."""
    folder = recipe.parent
    return matrix.relative_to(folder).as_posix() if matrix.is_relative_to(folder) else matrix.name
