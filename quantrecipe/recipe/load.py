"""load_recipe: a file, or the name of a shipped recipe, and all that it extends, become one Recipe.

A recipe is a chain of parts: its own file, then each parent with the parents' parents, in the order of
`extends`. A file that is reached twice counts where it is reached first. Then, simply, the first in the
chain wins:

* rules stand in the chain's order, and the first that matches a tensor decides
* of `default`, `fallback` and `keep`, and of each key of `importance` and `metadata`, the first that is given holds
* `file_type` is taken from the first part that gives it or sets a `default`: a recipe with a default of its own
  doesn't claim to be what its parent is
* `name` and `summary` aren't inherited

Where no part has a `keep`, the kept list is that of the recipe `llama.cpp/kept`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING

from quantrecipe.errors import Problem, RecipeError
from quantrecipe.recipe.definitions import Definitions
from quantrecipe.recipe.document import MAX_BYTES, Node, read_document
from quantrecipe.recipe.parse import Inclusion, RecipePart, parse_part, read_extends
from quantrecipe.recipe.reader import Reader
from quantrecipe.recipe.recipe import ImportanceSource, KeepEntry, Origin, Recipe
from quantrecipe.recipe.text import recipe_digest, recipe_text
from quantrecipe.recipe.tree import DISK, Tree, find_revision, is_revision

if TYPE_CHECKING:
    from quantrecipe.registry import Registry

__all__ = ["SHARED_KEPT_LIST", "load_recipe", "load_recipe_text"]

SHARED_KEPT_LIST = "llama.cpp/kept"
"""The recipe whose kept list holds where no other is given."""

_SUFFIXES = (".yaml", ".yml")
_SHIPPED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+")
_MAX_FILES = 64
_MAX_PATH = 1000


def load_recipe(ref: str | Path, *, registry: Registry | None = None) -> Recipe:
    """The recipe of a path, or a shipped recipe of a name like `llama.cpp/Q4_K_M`.

    A text is a path if it ends in .yaml or .yml, or if there is such a file; `main:recipes/mine.yaml` is that path at
    a revision of git. `registry` says which formats and shipped recipes there are; None loads it. RecipeError with
    every problem of every file, in line order.
    """
    loader = _Loader(registry or _load_registry())
    if isinstance(ref, str) and is_revision(ref):
        tree, path = find_revision(ref)
        return loader.load(_Place(file=ref, path=path, tree=tree))
    # Path.is_file raises for odd texts
    if isinstance(ref, str) and not ref.endswith(_SUFFIXES) and not os.path.isfile(ref):  # noqa: PTH113
        return loader.load(_Place.shipped(ref, loader.registry))
    path = Path(ref)
    return loader.load(_Place(file=path.as_posix(), path=path))


def load_recipe_text(
    text: str, *, file: str = "recipe.yaml", folder: Path | None = None, registry: Registry | None = None
) -> Recipe:
    """The recipe of a text, such as one recorded in a model file.

    `file` is what messages call it; paths in it are resolved against `folder`.
    """
    loader = _Loader(registry or _load_registry())
    return loader.load(_Place(file=file, path=(folder or Path()) / PurePosixPath(file).name), text)


class _Place:
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
    def shipped(cls, name: str, registry: Registry) -> _Place:
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
            what, version = "no installed plugin ships recipes under", prefix.partition("@")[0]
            if version != prefix and any(it.partition("@")[0] == version for it in folders):
                what = f"no installed plugin has this version of {version}:"
            raise RecipeError(
                f"{what} {prefix!r}",
                f"known are {', '.join(f'{known}/…' for known in sorted(folders))}; a file needs its ending .yaml",
            )
        path = folders[prefix] / f"{rest}.yaml"
        if not path.is_file():
            names = sorted(f"{said}/{known.stem}" for known in folders[prefix].glob("*.yaml"))
            close = get_close_matches(name, names, n=1)
            remedy = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names) or 'none'}"
            raise RecipeError(f"there is no recipe {name!r}", remedy)
        return cls(file=f"{prefix}/{rest}", path=path)

    def relative(self, ref: str) -> _Place:
        """The place of a path that a recipe here names."""
        if len(ref) > _MAX_PATH or not ref.isprintable():
            raise RecipeError(f"{ref[:60]!r} is no path", "write a path relative to this recipe")
        prefix = self.tree.prefix
        file = _normal(PurePosixPath(self.file.removeprefix(prefix)).parent / ref)
        return _Place(file=f"{prefix}{file}", path=self.path.parent / ref, tree=self.tree)


class _Loader:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._problems: list[Problem] = []
        self._read_in_order: list[str] = []
        self._met: dict[str, RecipePart | None] = {}

    def load(self, place: _Place, text: str | None = None) -> Recipe:
        parts = self._chain(place, text, ())
        keep = self._kept_list(parts)
        if self._problems:
            files = list(dict.fromkeys(self._read_in_order))
            files += sorted({str(problem.file) for problem in self._problems} - set(files))
            raise RecipeError(
                sorted(self._problems, key=lambda p: (files.index(str(p.file)), p.line or 0, p.column or 0))
            )
        own = parts[0][1]
        recipe = _merge(parts, keep, name=own.name or _stem(place.file))
        return replace(recipe, text=recipe_text(recipe, _written_file(parts)), digest=recipe_digest(recipe))

    def _chain(
        self, place: _Place, text: str | None, above: tuple[str, ...]
    ) -> list[tuple[_Place, RecipePart]]:
        """The parts, each once, in the order in which they count: this file, then its parents with theirs."""
        key = place.identity
        self._met[key] = None
        document = self._document(place, text)
        if document is None:
            return []
        root, reader = document
        behind: list[tuple[_Place, RecipePart]] = []
        inherited = Definitions()
        for inclusion in read_extends(root, reader):
            parent = self._find(place, inclusion)
            if parent is None:
                continue
            target = parent.identity
            if target in (*above, key):
                self._note(
                    inclusion.origin,
                    f"{inclusion.ref!r} extends this recipe, so each would come before the other",
                    "leave out one `extends`",
                )
                continue
            if target not in self._met:
                behind += self._chain(parent, None, (*above, key))
            if (known := self._met[target]) is not None:
                inherited = inherited.over(known.definitions)
        part = self._part(root, reader, own=not above, inherited=inherited)
        self._met[key] = part
        return [(place, part), *behind]

    def _document(self, place: _Place, text: str | None) -> tuple[Node, Reader] | None:
        """The tree of one file; None, and a note, where it can't be read."""
        self._read_in_order.append(place.file)
        n_files = len(self._read_in_order)
        if n_files > _MAX_FILES:
            if n_files == _MAX_FILES + 1:
                self._problems.append(
                    Problem(what=f"more than {_MAX_FILES} recipes extend each other", file=place.file)
                )
            return None
        try:
            root, problems = read_document(_read_text(place) if text is None else text, place.file)
        except RecipeError as error:
            self._problems.extend(error.problems)
            return None
        return root, Reader(place.file, problems)

    def _part(self, root: Node, reader: Reader, *, own: bool, inherited: Definitions) -> RecipePart:
        """What one file says; its problems are noted."""
        part = parse_part(root, reader, self.registry, own=own, inherited=inherited)
        self._problems.extend(
            sorted(reader.problems, key=lambda problem: (problem.line or 0, problem.column or 0))
        )
        return part

    def _included(self, place: _Place) -> RecipePart | None:
        """What a file says whose kept list is included."""
        if place.identity not in self._met:
            self._chain(place, None, ("",))
        return self._met[place.identity]

    def _find(self, place: _Place, inclusion: Inclusion) -> _Place | None:
        """Where an included recipe is; None, and a note, where it isn't."""
        ref = inclusion.ref
        try:
            if "://" in ref:
                raise RecipeError(
                    f"{ref!r} is a URL, and recipes name none", "download it, and extend the file"
                )
            if not ref.endswith(_SUFFIXES):
                return _Place.shipped(ref, self.registry)
            found = place.relative(ref)
            if not found.tree.is_file(found.path):
                raise RecipeError(
                    f"there is no recipe file {found.file!r}", "paths are relative to this recipe"
                )
            return found
        except RecipeError as error:
            self._note(inclusion.origin, error.problems[0].what, error.problems[0].remedy)
            return None

    def _kept_list(self, parts: Iterable[tuple[_Place, RecipePart]]) -> tuple[KeepEntry, ...]:
        given = next(((place, part.keep) for place, part in parts if part.keep is not None), None)
        if given is None:
            given = (
                _Place(file="", path=Path()),
                (Inclusion(ref=SHARED_KEPT_LIST, origin=Origin(file="", line=0)),),
            )
        return tuple(self._keep_entries(*given, ()))

    def _keep_entries(
        self, place: _Place, items: Iterable[KeepEntry | Inclusion], above: tuple[str, ...]
    ) -> Iterator[KeepEntry]:
        """The entries, with those of the lists that are included by name."""
        for item in items:
            if isinstance(item, KeepEntry):
                yield item
            elif (target := self._find(place, item)) is not None:
                key = target.identity
                if key in above:
                    self._note(item.origin, f"the kept list of {item.ref!r} includes itself", "leave it out")
                elif (part := self._included(target)) is not None:
                    if part.keep is None:
                        self._note(
                            item.origin,
                            f"{item.ref!r} has no kept list",
                            f"{SHARED_KEPT_LIST} has the shared one",
                        )
                    yield from self._keep_entries(target, part.keep or (), (*above, key))

    def _note(self, origin: Origin, what: str, remedy: str) -> None:
        self._problems.append(
            Problem(what=what, remedy=remedy, file=origin.file or None, line=origin.line or None)
        )


def _merge(parts: list[tuple[_Place, RecipePart]], keep: tuple[KeepEntry, ...], *, name: str) -> Recipe:
    place, own = parts[0]
    chain = [part for _, part in parts]
    default = next((part for part in chain if part.default is not None), own)
    label = next((part for part in chain if part.file_type or part.default), own)
    metadata = {key: value for part in reversed(chain) for key, value in part.metadata.items()}
    return Recipe(
        name=name,
        file=place.file,
        summary=own.summary or "",
        rules=tuple(rule for part in chain for rule in part.rules),
        keep=keep,
        default=default.default,
        default_origin=default.default_origin,
        fallback=next((part.fallback for part in chain if part.fallback), "chain"),
        importance=_importance(parts),
        file_type=label.file_type,
        prune=next((part.prune for part in chain if part.prune), None),
        metadata=MappingProxyType({key: metadata[key] for key in sorted(metadata)}),
    )


def _importance(parts: list[tuple[_Place, RecipePart]]) -> ImportanceSource:
    said = {key: value for _, part in reversed(parts) for key, value in part.importance.items()}
    place = next((place for place, part in parts if "file" in part.importance), None)
    required = said.get("required", False)
    return ImportanceSource(
        file=None if place is None else place.path.parent / said["file"],
        uncovered=said.get("uncovered", "warn"),
        required=required is True,
        required_for=required if isinstance(required, tuple) else (),
        include=said.get("include", ()),
        exclude=said.get("exclude", ()),
    )


def _written_file(parts: list[tuple[_Place, RecipePart]]) -> str | None:
    """The importance matrix as the recipe writes it: its place on this machine is no part of the recipe."""
    return next((part.importance["file"] for _, part in parts if "file" in part.importance), None)


def _read_text(place: _Place) -> str:
    try:
        data = place.tree.read(place.path, MAX_BYTES + 1)
    except RecipeError as error:
        problem = error.problems[0]
        raise RecipeError(problem.what, problem.remedy, file=place.file) from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            "the recipe isn't UTF-8 text", "save it as UTF-8", file=place.file, line=line
        ) from None


def _version(prefix: str) -> list[str | int]:
    """Sort key by which b9999 comes before b11312: texts and numbers, in turns."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", prefix)]


def _load_registry() -> Registry:
    from quantrecipe.registry import load_registry  # the registry loads plugins: only where none is given

    return load_registry()


def _normal(path: PurePosixPath) -> str:
    """The path without `..` where something stands before it."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts and parts[-1] not in ("..", "/"):
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts).as_posix()


def _stem(file: str) -> str:
    name = PurePosixPath(file).name
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return "".join(char if char.isprintable() else "?" for char in name) or "recipe"
