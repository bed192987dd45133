"""without_encoders: the same recipe with each format making its bytes by itself, everywhere or in some layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.recipe.recipe import EncoderChoice, Recipe
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.recipe.writing.flatten import recipe_text
from quantrecipe.recipe.writing.recipe_digest import recipe_digest

__all__ = ["with_plain_layers", "without_encoders"]


def without_encoders(recipe: Recipe) -> Recipe:
    """The recipe without any `encoder`. Its text and its digest say so, so that a file of it can be verified."""
    return _written(recipe, lambda encoder: None)


def with_plain_layers(recipe: Recipe, layers: Iterable[int]) -> Recipe:
    """The recipe whose encoders leave these layers out, too. At least one is given."""
    more = layer_ranges(layers)

    def narrowed(encoder: EncoderChoice) -> EncoderChoice:
        text = f"{encoder.except_layers}, {more}" if encoder.except_layers else more
        return replace(encoder, except_layers=LayerSet.parse(text))

    return _written(recipe, narrowed)


def _written(recipe: Recipe, change: Callable[[EncoderChoice], EncoderChoice | None]) -> Recipe:
    """The recipe with other encoders, as its text and its digest say."""

    def changed(encoder: EncoderChoice | None) -> EncoderChoice | None:
        return encoder and change(encoder)

    rules = tuple(replace(rule, encoder=changed(rule.encoder)) for rule in recipe.rules)
    made = replace(recipe, encoder=changed(recipe.encoder), rules=rules)
    matrix = recipe.importance.file
    return replace(
        made,
        text=recipe_text(made, None if matrix is None else _beside(matrix, Path(recipe.file))),
        digest=recipe_digest(made),
    )


def _beside(matrix: Path, recipe: Path) -> str:
    """The matrix as the recipe may have written it; by its name alone where it lies elsewhere."""
    folder = recipe.parent
    return matrix.relative_to(folder).as_posix() if matrix.is_relative_to(folder) else matrix.name
