"""The digest of what a recipe means: equal for recipes that say the same, however they say it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import xxhash

from quantrecipe.recipe.budget import budget_keys
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.recipe.target import target_keys
from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.pattern import Pattern

__all__ = ["plain", "recipe_digest"]


def recipe_digest(recipe: Recipe) -> str:
    """Return XXH3-128, in hex, of all that can change the output.

    Names, reasons, comments, layout and paths aren't part of it.
    """
    importance = recipe.importance
    meaning: dict[str, Any] = {
        "quantrecipe": 1,
        "default": recipe.default,
        "fallback": recipe.fallback,
        "file_type": recipe.label,
        "importance": [importance.uncovered, importance.demand],
        "metadata": {key: [int(value.type), value.payload.hex()] for key, value in recipe.metadata.items()},
        "rules": [
            {
                "tensors": _texts(rule.tensors),
                "layers": str(rule.layers) if rule.layers else None,
                "when": _canonical(rule.when),
                "type": rule.type,
                "options": plain(rule.options),
                "fallback": rule.fallback,
            }
            for rule in recipe.rules
        ],
        "keep": [{"tensors": _texts(entry.tensors), "when": _canonical(entry.when)} for entry in recipe.keep],
    }
    # Keys that came later are there only where they are used, so that older digests stay.
    if recipe.prune:
        meaning["prune"] = str(recipe.prune)
    if importance.include or importance.exclude:
        meaning["selected"] = [importance.include, importance.exclude]
    if any(rule.choose for rule in recipe.rules):
        meaning["choose"] = [rule.choose for rule in recipe.rules]
        meaning["budget"] = budget_keys(recipe.budget) if recipe.budget else None
        meaning["target"] = target_keys(recipe.target) if recipe.target else None
    encoders = [recipe.encoder, *(rule.encoder for rule in recipe.rules)]
    if any(encoders):
        meaning["encoders"] = [
            it and [it.name, plain(it.options), *([str(it.except_layers)] if it.except_layers else [])]
            for it in encoders
        ]
    canonical = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(canonical.encode("ascii"))


def plain(value: Any) -> Any:
    """Return options as plain data: dicts and lists in place of frozen mappings and tuples."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def _canonical(when: Expression | None) -> str | None:
    return when.canonical if when else None


def _texts(patterns: tuple[Pattern, ...]) -> list[str]:
    return [str(pattern) for pattern in patterns]
