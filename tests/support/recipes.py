"""Recipes made in Python, for tests of what comes after the loader."""

from __future__ import annotations

from typing import Any

from quantrecipe.recipe.recipe import KeepEntry, Origin, Recipe, Rule
from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.recipe.terms.pattern import Pattern

FILE = "recipe.yaml"


def patterns(tensors: str | list[str]) -> tuple[Pattern, ...]:
    """One pattern, or several."""
    texts = [tensors] if isinstance(tensors, str) else tensors
    return tuple(Pattern.parse(text) for text in texts)


def rule(
    tensors: str | list[str],
    type_: str,
    *,
    line: int = 1,
    layers: str | None = None,
    when: str | None = None,
    own: bool = True,
    **rest: Any,
) -> Rule:
    """A rule as the loader would make it."""
    return Rule(
        tensors=patterns(tensors),
        type=type_,
        origin=Origin(file=FILE, line=line),
        own=own,
        layers=None if layers is None else LayerSet.parse(layers),
        when=None if when is None else Expression.parse(when),
        **rest,
    )


def keep(tensors: str | list[str], when: str | None = None) -> KeepEntry:
    """An entry of the kept list."""
    return KeepEntry(
        tensors=patterns(tensors),
        origin=Origin(file="kept.yaml", line=1),
        when=None if when is None else Expression.parse(when),
    )


KEPT = (keep("*_norm"), keep("ffn_gate_inp"))


def recipe(
    *rules: Rule, default: str | None = None, kept: tuple[KeepEntry, ...] = KEPT, **rest: Any
) -> Recipe:
    """A recipe of these rules, with norms and routers kept."""
    return Recipe(name="test", file=FILE, rules=rules, keep=kept, default=default, **rest)
