"""load_recipe: a file, or the name of a shipped recipe, and all that it extends, become one Recipe.

A recipe is a chain of parts: its own file, then each parent with the parents' parents, in the order of
`extends`. A file that is reached twice counts where it is reached first. Then, simply, the first in the
chain wins:

* rules stand in the chain's order, and the first that matches a tensor decides
* of `default`, `fallback`, `encoder`, `target`, `prune` and `protect`, of each variable's default, and of each key of
  `importance` and `metadata`, the first that is given holds
* a `budget` with any limit replaces the limits of those behind it, and ties replace ties
* what any part `requires` is required
* `file_type` is taken from the first part that gives it or sets a `default`: a recipe with a default of its own
  doesn't claim to be what its parent is; one with rules of its own claims it only where its types bear it out
* `name` and `summary` aren't inherited

Where no part has `protect` (or `keep`, its former name), the kept list is that of the recipe `llama.cpp/kept`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from quantrecipe.errors import Problem, RecipeError
from quantrecipe.misplaced import misplaced
from quantrecipe.recipe.budget import merge_budgets
from quantrecipe.recipe.metadata import wrong_key
from quantrecipe.recipe.reading.extends_chain import SHARED_KEPT_LIST, Chain, Link
from quantrecipe.recipe.reading.file_tree import find_revision, is_revision
from quantrecipe.recipe.reading.recipe_part import LABELS, RecipePart
from quantrecipe.recipe.reading.recipe_place import SUFFIXES, Place
from quantrecipe.recipe.reading.requirements import check_requirement
from quantrecipe.recipe.reading.value_slots import is_type
from quantrecipe.recipe.recipe import ImportanceSource, KeepEntry, Recipe, Variable
from quantrecipe.recipe.shipped_recipes import shipped_namesake
from quantrecipe.recipe.writing.flatten import recipe_text
from quantrecipe.recipe.writing.recipe_digest import recipe_digest

if TYPE_CHECKING:
    from quantrecipe.registry import Registry

__all__ = ["SHARED_KEPT_LIST", "load_part", "load_recipe", "load_recipe_text", "recipe_place"]


def load_recipe(
    ref: str | Path, *, registry: Registry | None = None, settings: Mapping[str, str] | None = None
) -> Recipe:
    """Load the recipe of a path, or a shipped recipe by a name like `llama.cpp/Q4_K_M`.

    A text is a path if it ends in .yaml or .yml, or if there is such a file; `main:recipes/mine.yaml` is that path at
    a revision of git. The name of a shipped recipe may be short where it is unique (`Q4_K_M`); `Recipe.notes` tells.
    `registry` says which formats and shipped recipes there are; None loads it. `settings` has the values of variables,
    as `--set` gives them. RecipeError with every problem of every file, in line order.
    """
    registry = registry or _load_registry()
    return _load(recipe_place(ref, registry), None, registry, settings)


def recipe_place(ref: str | Path, registry: Registry) -> Place:
    """Say where a recipe is that is named by a path, by a path at a revision, or by the name of a shipped recipe."""
    # Path.is_file raises for odd texts
    if isinstance(ref, str) and is_revision(ref):
        tree, path = find_revision(ref)
        return Place(file=ref, path=path, tree=tree)
    if isinstance(ref, str) and not ref.endswith(SUFFIXES):
        if not os.path.isfile(ref):  # noqa: PTH113
            return _shipped(ref, registry)
        whole = shipped_namesake(ref, registry)
        note = f"{ref!r} is the file of this name here, not the recipe {whole}, which ships" if whole else ""
        return Place(file=Path(ref).as_posix(), path=Path(ref), note=note)
    return Place(file=Path(ref).as_posix(), path=Path(ref))


def _shipped(ref: str, registry: Registry) -> Place:
    """Return the place of a shipped recipe. What isn't one gets a message about what it is."""
    try:
        return Place(file="", path=Path("recipe.yaml")).by_name(ref, registry)
    except RecipeError:
        is_other = "://" in ref or os.path.isdir(ref)  # noqa: PTH112  # as above
        if is_other and (wrong := misplaced(ref, "recipe")):
            raise RecipeError(*wrong, file=ref) from None
        raise


def load_recipe_text(
    text: str,
    *,
    file: str = "recipe.yaml",
    folder: Path | None = None,
    registry: Registry | None = None,
    settings: Mapping[str, str] | None = None,
) -> Recipe:
    """Load a recipe from a text, such as the one that is recorded in a model file.

    `file` is what messages call it; paths in it are resolved against `folder`.
    """
    place = Place(file=file, path=(folder or Path()) / PurePosixPath(file).name)
    return _load(place, text, registry or _load_registry(), settings)


def load_part(part: RecipePart, *, registry: Registry) -> Recipe:
    """Load what a program says as a recipe, with all that it extends.

    RecipeError if a package that it requires, a format or a recipe that it names isn't there, or if it says what no
    recipe may say.
    """
    unmet = [check_requirement(text, registry) for text in part.requires]
    problems = [problem for problem in unmet if problem is not None]
    types = [part.default, *(name for rule in part.rules for name in (rule.type, *rule.choose))]
    problems += [
        registry.missing_format(it) for it in dict.fromkeys(types) if it and not is_type(it, registry)
    ]
    problems += [
        Problem(what=what, remedy=remedy) for key in part.metadata for what, remedy in wrong_key(key)
    ]
    if part.file_type is not None and part.file_type not in LABELS:
        problems.append(Problem(what=f"file_type: {part.file_type!r} isn't known"))
    if problems:
        raise RecipeError(problems)
    return _load(Place(file=part.file, path=Path(part.file)), part, registry, None)


def _load(
    place: Place, text: str | RecipePart | None, registry: Registry, settings: Mapping[str, str] | None
) -> Recipe:
    chain = Chain(registry, settings or {})
    links, keep = chain.read(place, text)
    chain.raise_problems()
    recipe = _merge(links, keep, chain.variables)
    return replace(
        recipe,
        text=recipe_text(recipe, _written_file(links)),
        digest=recipe_digest(recipe),
        notes=tuple(dict.fromkeys(chain.notes)),
    )


def _merge(links: Sequence[Link], keep: tuple[KeepEntry, ...], variables: Mapping[str, Variable]) -> Recipe:
    place, own = links[0].place, links[0].part
    chain = [link.part for link in links]

    def first(key: str) -> Any:
        """Return what the first part says that says anything."""
        return next((said for part in chain if (said := getattr(part, key)) is not None), None)

    default = next((part for part in chain if part.default is not None), own)
    label = next((part for part in chain if part.file_type or part.default), own)
    before = chain[: next(number for number, part in enumerate(chain) if part is label)]
    metadata = {key: value for part in reversed(chain) for key, value in part.metadata.items()}
    return Recipe(
        name=own.name or place.stem,
        file=place.file,
        summary=own.summary or "",
        rules=tuple(replace(rule, through=link.through) for link in links for rule in link.part.rules),
        keep=keep,
        default=default.default,
        default_origin=default.default_origin,
        fallback=first("fallback") or "chain",
        importance=_importance(links),
        encoder=first("encoder"),
        file_type=label.file_type,
        file_type_fixed=label.file_type_fixed
        and not any(part.rules or part.keep is not None for part in before),
        file_type_origin=label.file_type_origin,
        prune=first("prune"),
        metadata=MappingProxyType({key: metadata[key] for key in sorted(metadata)}),
        target=first("target"),
        budget=reduce(merge_budgets, (part.budget for part in chain)),
        requires=tuple(dict.fromkeys(text for part in chain for text in part.requires)),
        variables=MappingProxyType(dict(variables)),
    )


def _importance(links: Sequence[Link]) -> ImportanceSource:
    said = {key: value for link in reversed(links) for key, value in link.part.importance.items()}
    place = next((link.place for link in links if "file" in link.part.importance), None)
    required = said.get("required", False)
    return ImportanceSource(
        file=None if place is None else place.path.parent / said["file"],
        uncovered=said.get("uncovered", "warn"),
        required=required is True,
        required_for=required if isinstance(required, tuple) else (),
        include=said.get("include", ()),
        exclude=said.get("exclude", ()),
    )


def _written_file(links: Sequence[Link]) -> str | None:
    """Return the importance matrix as the recipe writes it: where it is on this machine is no part of the recipe."""
    return next((link.part.importance["file"] for link in links if "file" in link.part.importance), None)


def _load_registry() -> Registry:
    from quantrecipe.registry import load_registry  # the registry loads plugins: only where none is given

    return load_registry()
