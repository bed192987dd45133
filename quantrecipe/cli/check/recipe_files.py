"""What `check` is about: files, names of shipped recipes, and folders, which stand for the recipes in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quantrecipe.errors import Problem, RecipeError

if TYPE_CHECKING:
    from quantrecipe.registry import Registry

__all__ = ["is_recipe", "recipe_files", "recipes_in", "shipped_namesakes"]

_SUFFIXES = (".yaml", ".yml")
# The key that every recipe has. Files that Windows' editors write may begin with a byte order mark.
_KEY = re.compile(r"^(?:\ufeff)?quantrecipe\s*:", re.MULTILINE)
# Bytes that are read to find the key: it may stand behind a long comment, and other YAML may be of any
# size.
_HEAD = 1 << 16


def recipe_files(refs: Sequence[str]) -> list[str]:
    """Every recipe that is meant, each once. RecipeError for a folder without any."""
    found: dict[str, None] = {}
    for ref in refs:
        if not Path(ref).is_dir():
            found[ref] = None
            continue
        inside = [path.as_posix() for path in recipes_in(Path(ref))]
        if not inside:
            raise RecipeError(
                f"there is no recipe in the folder {ref}",
                "recipes are .yaml files with the key `quantrecipe`",
            )
        found |= dict.fromkeys(inside)
    return list(found)


def shipped_namesakes(refs: Sequence[str], registry: Registry) -> Iterator[Problem]:
    """Notes on folders that have the name of a shipped recipe, so that the folder is checked and not the recipe."""
    from quantrecipe.recipe.shipped_recipes import shipped_namesake

    for ref in refs:
        if Path(ref).is_dir() and (whole := shipped_namesake(ref, registry)):
            yield Problem(
                what=f"{ref!r} is the folder of this name here, not the recipe {whole}, which ships"
            )


def recipes_in(folder: Path) -> Iterator[Path]:
    """The recipes in a folder and the folders below, in order; hidden ones are passed over, and other YAML too."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in _SUFFIXES and not hidden and path.is_file() and is_recipe(path):
            yield path


def is_recipe(path: Path) -> bool:
    """True if the file has the key that every recipe has."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    return bool(_KEY.search(head.decode("utf-8", errors="replace")))
