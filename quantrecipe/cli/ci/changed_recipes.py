"""Which recipes of a repository a change is about: those that it touches, and those that extend them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from quantrecipe.cli.check.recipe_files import is_recipe
from quantrecipe.errors import RecipeError
from quantrecipe.recipe.reading.file_tree import git_output
from quantrecipe.recipe.reading.node_reader import Reader
from quantrecipe.recipe.reading.recipe_part import read_extends
from quantrecipe.recipe.reading.recipe_place import SUFFIXES
from quantrecipe.recipe.reading.yaml_document import read_document

__all__ = ["Change", "Kind", "branching_point", "changed_recipes"]

Kind = Literal["added", "changed", "removed", "renamed", "inherits"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A recipe that the change is about.

    path:    where it is now; of a removed one, where it was
    old:     where it was at the base; None where it wasn't
    through: of one that the change only reaches by `extends`: the recipes that brought it here
    """

    kind: Kind
    path: str
    old: str | None = None
    through: tuple[str, ...] = ()


def branching_point(base: str) -> str:
    """The commit where the work on HEAD began, seen from `base`: what others did on it since isn't ours."""
    here = Path.cwd()
    if base.startswith("-") or not base.isprintable() or not base:
        raise RecipeError(f"{base[:60]!r} is no revision", "name a branch or a commit: --base origin/main")
    try:
        git_output(["rev-parse", "--verify", "--quiet", f"{base}^{{commit}}"], here)
    except RecipeError:
        raise RecipeError(
            f"git knows no revision {base!r}",
            "fetch it; in a GitHub workflow, check out with fetch-depth: 0",
        ) from None
    try:
        return git_output(["merge-base", base, "HEAD"], here).decode().strip()
    except RecipeError:
        raise RecipeError(
            f"HEAD and {base!r} have no commit in common",
            "a shallow clone has too few: in a GitHub workflow, check out with fetch-depth: 0",
        ) from None


def changed_recipes(base: str) -> list[Change]:
    """What the files in and below the current folder are to the commit `base`, in the order of their paths.

    Files that aren't recipes are passed over, and so are those that git doesn't know.
    """
    direct = {change.path: change for change in _direct(base)}
    touched = {path for change in direct.values() for path in (change.path, change.old) if path}
    parents = {path: _parents(path) for path in _recipes_here()}
    found = dict(direct)
    for path in parents:
        through = _reached(path, parents, touched)
        if path not in found and through:
            found[path] = Change(kind="inherits", path=path, old=path, through=through)
    return [found[path] for path in sorted(found)]


def _direct(base: str) -> Iterator[Change]:
    output = git_output(["diff", "--name-status", "-z", "-M", "--relative", base, "--"], Path.cwd())
    words = iter(os.fsdecode(output).split("\0"))
    for status in words:
        if not status:
            continue
        first = next(words)
        second = next(words) if status[0] in "RC" else None
        change = _change(status[0], first, second, base)
        if change is not None:
            yield change


def _change(status: str, first: str, second: str | None, base: str) -> Change | None:
    now = second or first
    was = _was_recipe(base, first) if status != "A" else False
    is_one = status != "D" and _is_recipe_here(now)
    if is_one and was and status != "C":
        return Change(kind="renamed" if second else "changed", path=now, old=first)
    if is_one:
        return Change(kind="added", path=now)
    return Change(kind="removed", path=first, old=first) if was and status != "C" else None


def _recipes_here() -> list[str]:
    """The recipes in and below the current folder that git knows."""
    output = git_output(["ls-files", "-z", "--cached", "--", *(f"*{end}" for end in SUFFIXES)], Path.cwd())
    paths = os.fsdecode(output).split("\0")
    return [path for path in dict.fromkeys(paths) if path and _is_recipe_here(path)]


def _is_recipe_here(path: str) -> bool:
    return path.endswith(SUFFIXES) and Path(path).is_file() and is_recipe(Path(path))


def _was_recipe(base: str, path: str) -> bool:
    if not path.endswith(SUFFIXES):
        return False
    try:
        text = git_output(["show", f"{base}:./{path}"], Path.cwd()).decode("utf-8", errors="replace")
    except RecipeError:
        return False
    return any(line.startswith("quantrecipe") for line in text.splitlines())


def _parents(path: str) -> tuple[str, ...]:
    """The files that a recipe takes something from by path: in `extends`, and lists in `protect`."""
    try:
        root, problems = read_document(Path(path).read_text(encoding="utf-8"), path)
    except (RecipeError, OSError, UnicodeDecodeError):
        return ()
    if root.kind != "mapping":
        return ()
    refs = [inclusion.ref for inclusion in read_extends(root, Reader(path, problems))]
    for key in ("protect", "keep"):  # its former name
        protected = root.entries.get(key)
        if protected is not None and protected.value.kind == "list":
            refs += [item.value for item in protected.value.items if item.kind == "text"]
    folder = PurePosixPath(path).parent
    return tuple(os.path.normpath(folder / ref) for ref in refs if ref.endswith(SUFFIXES))


def _reached(path: str, parents: Mapping[str, Sequence[str]], touched: set[str]) -> tuple[str, ...]:
    """The touched files that a recipe extends, directly or through others."""
    met: dict[str, None] = {}
    waiting = [*parents.get(path, ())]
    while waiting:
        parent = waiting.pop(0)
        if parent not in met:
            met[parent] = None
            waiting += parents.get(parent, ())
    return tuple(parent for parent in met if parent in touched)
