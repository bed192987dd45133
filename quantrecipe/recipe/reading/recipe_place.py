"""Place: where a recipe is: on the disk, at a revision of git, or shipped by quantrecipe or a plugin."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from quantrecipe.errors import RecipeError
from quantrecipe.misplaced import misplaced
from quantrecipe.recipe.reading.file_tree import DISK, Tree
from quantrecipe.recipe.reading.yaml_document import MAX_BYTES
from quantrecipe.recipe.shipped_recipes import find_shipped

if TYPE_CHECKING:
    from quantrecipe.registry import Registry

__all__ = ["SUFFIXES", "Place"]

SUFFIXES = (".yaml", ".yml")
"""What the paths of recipes end in."""

_MAX_PATH = 1000
"""Systems refuse longer paths, each with an error of its own."""


class Place:
    """Where a recipe is: what messages call it, its path, and the tree that has it there.

    `note` says what its name was taken for, where that isn't plain.
    """

    def __init__(self, *, file: str, path: Path, tree: Tree = DISK, note: str = "") -> None:
        self.file = file
        self.path = path
        self.tree = tree
        self.note = note

    @property
    def identity(self) -> str:
        """Equal for the same file under several names."""
        return self.tree.identity(self.path)

    @classmethod
    def shipped(cls, name: str, registry: Registry) -> Place:
        """Return the place of a recipe that ships, by its whole name or a short one (see `find_shipped`)."""
        whole, file, path = find_shipped(name, registry)
        return cls(file=file, path=path, note="" if whole == name else f"{name!r} is {whole}, which ships")

    def relative(self, ref: str) -> Place:
        """Return the place of a path that a recipe here names."""
        if len(ref) > _MAX_PATH or not ref.isprintable():
            raise RecipeError(f"{ref[:60]!r} is no path", "write a path relative to this recipe")
        prefix = self.tree.prefix
        file = _normal(PurePosixPath(self.file.removeprefix(prefix)).parent / ref)
        return Place(file=f"{prefix}{file}", path=self.path.parent / ref, tree=self.tree)

    def named(self, ref: str, registry: Registry) -> Place:
        """Return the place of a recipe that one here extends. RecipeError if there is none."""
        if "://" in ref:
            raise RecipeError(f"{ref!r} is a URL, and recipes name none", "download it, and extend the file")
        if not ref.endswith(SUFFIXES):
            return self.by_name(ref, registry)
        found = self.relative(ref)
        if not found.tree.is_file(found.path):
            raise RecipeError(f"there is no recipe file {found.file!r}", "paths are relative to this recipe")
        return found

    def by_name(self, ref: str, registry: Registry) -> Place:
        """Return the place of a shipped recipe. RecipeError if a file beside this recipe could be meant as well.

        Only a name as it stands in `PREFIX/NAME` is beyond doubt: `code-model` may be code-model.yaml.
        """
        beside = [f"{ref}{end}" for end in SUFFIXES if ref.isprintable() and self._has(f"{ref}{end}")]
        try:
            found = Place.shipped(ref, registry)
        except RecipeError as error:
            if not beside:
                raise
            raise RecipeError(error.problems[0].what, f"did you mean the file {beside[0]}?") from None
        if beside and found.note:
            raise RecipeError(
                f"{ref!r} could be the file {beside[0]}, or {found.note.removeprefix(f'{ref!r} is ')}",
                "write the one that is meant",
            )
        return found

    def _has(self, ref: str) -> bool:
        return len(ref) <= _MAX_PATH and self.tree.is_file(self.path.parent / ref)

    @property
    def stem(self) -> str:
        """The file's name without its ending: what a recipe without a name is called."""
        name = PurePosixPath(self.file).name
        for suffix in SUFFIXES:
            name = name.removesuffix(suffix)
        return "".join(char if char.isprintable() else "?" for char in name) or "recipe"

    def read(self) -> str:
        """Read the text. RecipeError if it can't be read, or is something else than a recipe."""
        if self.tree is DISK and (wrong := misplaced(self.path, "recipe")):
            raise RecipeError(*wrong, file=self.file)
        try:
            data = self.tree.read(self.path, MAX_BYTES + 1)
        except RecipeError as error:
            raise RecipeError(error.at(self.file)) from None
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise RecipeError(
                "the recipe isn't UTF-8 text", "save it as UTF-8", file=self.file, line=line
            ) from None


def _normal(path: PurePosixPath) -> str:
    """Return the path without each `..` that has something before it."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts and parts[-1] not in ("..", "/"):
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts).as_posix()
