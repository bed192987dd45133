"""Which recipes `advise` lays out: those that were named, else the presets and the curated recipes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from quantrecipe.fit.stock import PREFIX
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry

__all__ = ["Candidate", "default_candidates", "named_candidate"]

_SHOWN = (
    *("IQ2_XXS", "IQ2_M", "Q2_K", "IQ3_XXS", "IQ3_M", "Q3_K_M", "IQ4_XS", "Q4_K_M", "Q5_K_M"),
    *("Q6_K", "Q8_0"),
)
"""Of the presets, those that are published most; the others lie between them."""
_CURATED = "quantrecipe"


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A recipe that advise lays out. `name` is what people call it, `ref` what commands take for it."""

    name: str
    ref: str
    recipe: Recipe


def default_candidates(registry: Registry) -> Iterator[Candidate]:
    """The presets, then the curated recipes, the plainest first: of two with the same types, it stands for both."""
    for name in _SHOWN:
        ref = f"{PREFIX}{name}"
        yield Candidate(name=name, ref=ref, recipe=load_recipe(ref, registry=registry))
    folder = registry.recipe_folders.get(_CURATED)
    curated = []
    for path in sorted(folder.glob("*.yaml")) if folder is not None else ():
        ref = f"{_CURATED}/{path.stem}"
        curated.append(Candidate(name=path.stem, ref=ref, recipe=load_recipe(ref, registry=registry)))
    # One that others extend is a frame for them, and one that demands importance asks for more: both come last.
    parents = {origin for it in curated for rule in it.recipe.rules for origin in [rule.origin.file]}
    yield from sorted(
        curated, key=lambda it: (it.recipe.importance.required, it.recipe.file in parents, it.name)
    )


def named_candidate(text: str, registry: Registry) -> Candidate:
    """A recipe as somebody named it: a path, or a shipped name, whole or short. RecipeError where there is none."""
    return Candidate(name=_short(text), ref=text, recipe=load_recipe(text, registry=registry))


def _short(ref: str) -> str:
    """The short name of a shipped recipe: Q4_K_M of llama.cpp/Q4_K_M. A path stays as it is."""
    prefix, _, name = ref.rpartition("/")
    return name if name and prefix in (PREFIX.rstrip("/"), _CURATED) else ref
