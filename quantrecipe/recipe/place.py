"""Place: where a recipe is: on the disk, at a revision of git, or shipped by quantrecipe or a plugin."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.document import MAX_BYTES
from quantrecipe.recipe.suggest import closest, listed
from quantrecipe.recipe.tree import DISK, Tree

if TYPE_CHECKING:
    from quantrecipe.registry import Registry

__all__ = ["SUFFIXES", "Place"]

SUFFIXES = (".yaml", ".yml")
"""What the paths of recipes end in."""

_SHIPPED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+")
_MAX_PATH = 1000


class Place:
    """Where a recipe is: what messages call it, its path, and the tree that has it there."""

    def __init__(self, *, file: str, path: Path, tree: Tree = DISK) -> None:
        self.file = file
        self.path = path
        self.tree = tree

    @property
    def identity(self) -> str:
        """Equal for the same file under several names."""
        return self.tree.identity(self.path)

    @classmethod
    def shipped(cls, name: str, registry: Registry) -> Place:
        """The place of `PREFIX/NAME`. A prefix without its `@VERSION` means the newest that is there."""
        said, _, rest = name.partition("/")
        folders = registry.recipe_folders
        versions = [it for it in folders if it.startswith(f"{said}@")]
        prefix = max(versions, key=_version) if versions and said not in folders else said
        if not _SHIPPED.fullmatch(name):
            raise RecipeError(
                f"{name!r} is neither a recipe file nor the name of a shipped recipe",
                "write a path that ends in .yaml, or a name like llama.cpp/Q4_K_M",
            )
        if prefix not in folders:
            raise _no_prefix(prefix, registry)
        path = folders[prefix] / f"{rest}.yaml"
        if not path.is_file():
            names = sorted(f"{said}/{known.stem}" for known in folders[prefix].glob("*.yaml"))
            close = closest(name, names)
            remedy = f"did you mean {close!r}?" if close else f"there are {listed(names) or 'none'}"
            raise RecipeError(f"there is no recipe {name!r}", remedy)
        return cls(file=f"{prefix}/{rest}", path=path)

    def relative(self, ref: str) -> Place:
        """The place of a path that a recipe here names."""
        if len(ref) > _MAX_PATH or not ref.isprintable():
            raise RecipeError(f"{ref[:60]!r} is no path", "write a path relative to this recipe")
        prefix = self.tree.prefix
        file = _normal(PurePosixPath(self.file.removeprefix(prefix)).parent / ref)
        return Place(file=f"{prefix}{file}", path=self.path.parent / ref, tree=self.tree)

    def named(self, ref: str, registry: Registry) -> Place:
        """The place of a recipe that one here extends. RecipeError where there is none."""
        if "://" in ref:
            raise RecipeError(f"{ref!r} is a URL, and recipes name none", "download it, and extend the file")
        if not ref.endswith(SUFFIXES):
            return Place.shipped(ref, registry)
        found = self.relative(ref)
        if not found.tree.is_file(found.path):
            raise RecipeError(f"there is no recipe file {found.file!r}", "paths are relative to this recipe")
        return found

    @property
    def stem(self) -> str:
        """The file's name without its ending: what a recipe without a name is called."""
        name = PurePosixPath(self.file).name
        for suffix in SUFFIXES:
            name = name.removesuffix(suffix)
        return "".join(char if char.isprintable() else "?" for char in name) or "recipe"

    def read(self) -> str:
        """The text. RecipeError where it can't be read."""
        try:
            data = self.tree.read(self.path, MAX_BYTES + 1)
        except RecipeError as error:
            problem = error.problems[0]
            raise RecipeError(problem.what, problem.remedy, file=self.file) from None
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise RecipeError(
                "the recipe isn't UTF-8 text", "save it as UTF-8", file=self.file, line=line
            ) from None


def _no_prefix(prefix: str, registry: Registry) -> RecipeError:
    """Which versions there are, or which plugin may have it."""
    folders, name = registry.recipe_folders, prefix.partition("@")[0]
    if name != prefix and (there := [it for it in folders if it.partition("@")[0] == name]):
        what = f"this version of {name} isn't installed: {prefix}"
        return RecipeError(
            what, f"installed is {', '.join(sorted(there, key=_version))}; without @VERSION the newest counts"
        )
    what = f"no installed plugin ships recipes under {prefix!r}"
    if registry.failed:
        broken = "; ".join(f"{plugin.source}: {plugin.cause}" for plugin in registry.failed)
        return RecipeError(f"{what}; it may belong to a plugin that failed to load", broken)
    if not registry.plugins_on:
        return RecipeError(f"{what}, and plugins are switched off", "leave out --no-plugins if one has it")
    known = ", ".join(f"{it}/…" for it in sorted(folders))
    return RecipeError(what, f"known are {known}; a file needs its ending .yaml")


def _version(prefix: str) -> list[str | int]:
    """Sort key by which b9999 comes before b11312: texts and numbers, in turns."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", prefix)]


def _normal(path: PurePosixPath) -> str:
    """The path without `..` where something stands before it."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts and parts[-1] not in ("..", "/"):
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts).as_posix()
