"""Shipped recipes by name: those of quantrecipe and of plugins, whole (`llama.cpp/Q4_K_M`) or short (`Q4_K_M`).

A short name is one without its prefix, in upper or lower case, with `_` or `-`: `UD-Q3_K_XL` is
quantrecipe/ud-q3-k-xl. It counts where exactly one recipe could be meant. Being spelt exactly as one of several
doesn't help it: else a plugin that is installed later could change, silently, what a recipe means. Only the names of
llama-quantize's presets go first, since everybody who writes `Q8_0` means that one; no plugin can take them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from quantrecipe.errors import RecipeError
from quantrecipe.wording import closest, listed

if TYPE_CHECKING:
    from quantrecipe.registry import Registry

__all__ = ["find_shipped", "is_glob", "matching", "shipped_namesake", "shipped_recipes"]

_WHOLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+")
_SHORT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_PRESETS = "llama.cpp/"
_NEITHER = "is neither a recipe file nor the name of a shipped recipe"
_MOST_SUGGESTED = 3  # what fits on the line of a message
_LONGEST = 100
"""Characters of a name that are compared with others: recipes are strangers' files."""


def shipped_recipes(registry: Registry) -> Mapping[str, Path]:
    """Return the file of each shipped recipe, by its whole name. A prefix with versions is named once, without them.

    Of several versions (`llama.cpp@b9999`, `llama.cpp@b11312`) the newest is meant. Parts that only other recipes
    use (`llama.cpp/kept`) are among them.
    """
    folders = registry.recipe_folders
    return {
        f"{said}/{path.stem}": path
        for said in dict.fromkeys(prefix.partition("@")[0] for prefix in folders)
        for path in sorted(folders[_newest(said, folders)].glob("*.yaml"), key=_in_order)
    }


def find_shipped(name: str, registry: Registry) -> tuple[str, str, Path]:
    """Return the whole name of the recipe that is meant, the same with the version of its prefix, and its file.

    RecipeError where there is none, or several could be meant.
    """
    if "/" in name and _WHOLE.fullmatch(name):
        said, _, rest = name.partition("/")
        prefix = _newest(said, registry.recipe_folders)
        if prefix not in registry.recipe_folders:
            raise _no_prefix(prefix, name, registry)
        path = registry.recipe_folders[prefix] / f"{rest}.yaml"
        if os.path.isfile(path):  # noqa: PTH113  # Path.is_file raises for long names
            return name, f"{prefix}/{rest}", path
        there = {f"{said}/{known.stem}": known for known in registry.recipe_folders[prefix].glob("*.yaml")}
    elif _SHORT.fullmatch(name):
        there = dict(shipped_recipes(registry))
    elif is_glob(name) and len(name) < _LONGEST and (found := matching(name, registry)):
        raise RecipeError(
            f"{name!r} is the name of {len(found)} shipped recipes, and one stands here",
            f"`apply` and `check` take several; write one of {listed(found)}",
        )
    else:
        what = f"{name[:_LONGEST]!r} {_NEITHER}"
        raise RecipeError(what, "write a path that ends in .yaml, or a name like llama.cpp/Q4_K_M")
    meant = [whole for whole in there if _key(whole) == _key(name) or _key(_stem(whole)) == _key(name)]
    meant = [whole for whole in meant if whole.startswith(_PRESETS)] or meant
    if len(meant) == 1:
        prefix = _newest(meant[0].partition("/")[0], registry.recipe_folders)
        return meant[0], f"{prefix}/{_stem(meant[0])}", there[meant[0]]
    if meant:
        raise RecipeError(
            f"{name!r} is the name of {len(meant)} shipped recipes", f"write {' or '.join(meant)}"
        )
    raise _no_such(name, there)


def shipped_namesake(name: str, registry: Registry) -> str | None:
    """Return the whole name of the shipped recipe that has the name of a file or folder; None if there is none."""
    try:
        return find_shipped(name, registry)[0]
    except RecipeError:
        return None


def is_glob(name: str) -> bool:
    """Say whether a text is a pattern of names: `llama.cpp/Q4_*`."""
    return any(sign in name for sign in "*?[")


def matching(glob: str, registry: Registry) -> tuple[str, ...]:
    """Return the whole names that a glob matches; without a `/` it is compared with the names behind the prefixes."""
    return tuple(
        whole
        for whole in shipped_recipes(registry)
        if fnmatchcase(_key(whole if "/" in glob else _stem(whole)), _key(glob))
    )


def _no_such(name: str, there: Iterable[str]) -> RecipeError:
    """Say what may have been meant: of short names, those that hold it, and those that look most like it."""
    there = sorted(there)
    if "/" in name:
        close = closest(name, there)
        remedy = f"did you mean {close!r}?" if close else f"there are {listed(there) or 'none'}"
        return RecipeError(f"there is no recipe {name!r}", remedy)
    wanted = _letters(_stem(name))[:_LONGEST]
    by_letters: dict[str, list[str]] = {}
    for whole in there:
        by_letters.setdefault(_letters(_stem(whole)), []).append(whole)
    holding = [known for known in by_letters if len(wanted) > 2 and wanted in known]
    alike = list(dict.fromkeys(holding + get_close_matches(wanted, by_letters, n=_MOST_SUGGESTED)))
    if wanted in by_letters:  # q4km
        alike = [wanted]
    meant = [whole for known in alike for whole in by_letters[known]][:_MOST_SUGGESTED]
    what = f"{name!r} {_NEITHER}"
    if meant:
        return RecipeError(what, f"did you mean {_either(meant)}?")
    return RecipeError(what, "`quantrecipe recipes` lists those that ship; a file needs its ending .yaml")


def _no_prefix(prefix: str, name: str, registry: Registry) -> RecipeError:
    """Say which versions there are, or which plugin may have the prefix."""
    folders, said = registry.recipe_folders, prefix.partition("@")[0]
    if said != prefix and (there := [it for it in folders if it.partition("@")[0] == said]):
        what = f"this version of {said} isn't installed: {prefix}"
        return RecipeError(
            what, f"installed is {', '.join(sorted(there, key=_version))}; without @VERSION the newest counts"
        )
    what = f"no installed plugin ships recipes under {prefix!r}"
    same = [whole for whole in shipped_recipes(registry) if _key(_stem(whole)) == _key(_stem(name))]
    namesakes = f"; there is {_either(same)}" if same else ""
    if registry.failed:
        broken = "; ".join(f"{plugin.source}: {plugin.cause}" for plugin in registry.failed)
        return RecipeError(f"{what}; it may belong to a plugin that failed to load", broken)
    if not registry.plugins_on:
        remedy = f"leave out --no-plugins if one has it{namesakes}"
        return RecipeError(f"{what}, and plugins are switched off", remedy)
    known = ", ".join(f"{it}/…" for it in sorted(folders))
    return RecipeError(what, f"known are {known}; a file needs its ending .yaml{namesakes}")


def _newest(said: str, folders: Mapping[str, Path]) -> str:
    """Return the prefix that is meant: as it is said, or its newest version."""
    versions = [it for it in folders if it.startswith(f"{said}@")]
    return max(versions, key=_version) if versions and said not in folders else said


def _version(prefix: str) -> list[str | int]:
    """Return a sort key by which b9999 comes before b11312: texts and numbers, in turns."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", prefix)]


def _in_order(path: Path) -> list[str | int]:
    """Return a sort key by which Q3_K comes before Q10_K."""
    return _version(path.stem)


def _stem(whole: str) -> str:
    return whole.rpartition("/")[2]


def _key(name: str) -> str:
    """Return a text that is equal for names that differ in case alone, or in `_` and `-`."""
    return name.lower().replace("_", "-")


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _either(names: Iterable[str]) -> str:
    said = list(names)
    return f"{', '.join(said[:-1])} or {said[-1]}" if said[1:] else said[0]
