"""read_release: a release.yaml becomes a Release: which files to make, from which texts, measured on which.

    release: 1
    base_model: owner/My-Model-7B
    files:
      - recipe: llama.cpp/Q4_K_M
      - {recipe: recipes/mine.yaml, name: "{model}-CODE.gguf", note: for code}
      - fit: {size: 5GB}
    imatrix: {texts: [code=calib/code.txt, calib/prose.txt]}
    measure: {texts: [code=val/code.txt], chunks: 40}
    split: 50GB

It is the YAML of recipes, as strict: unknown keys are errors, and every problem is told with its line, all at once.
Paths are relative to the file. The keys are those of `schema.json`, which editors use; a test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from quantrecipe.errors import RecipeError
from quantrecipe.misplaced import misplaced
from quantrecipe.recipe.budget import BUDGET_KEYS, KV_TYPES, Budget, read_budget
from quantrecipe.recipe.reading.groups_and_facts import Definitions
from quantrecipe.recipe.reading.node_reader import Reader
from quantrecipe.recipe.reading.recipe_place import SUFFIXES
from quantrecipe.recipe.reading.value_slots import Slots
from quantrecipe.recipe.reading.variables import Uses
from quantrecipe.recipe.reading.yaml_document import MAX_BYTES, Entry, FileKind, Node, read_document
from quantrecipe.registry import Registry
from quantrecipe.release.hub_names import file_name_problem, repo_problem
from quantrecipe.release.release import (
    DEFAULT_NAME,
    NO_MATRIX,
    NO_PART,
    FitWish,
    MatrixWish,
    MeasureWish,
    MemoryWish,
    PartWish,
    Release,
    ReleaseFile,
)
from quantrecipe.units import parse_file_size, parse_tokens
from quantrecipe.wording import quoted

__all__ = [
    "FILE_KEYS",
    "FIT_KEYS",
    "IMATRIX_KEYS",
    "MEASURE_KEYS",
    "MEMORY_KEYS",
    "RELEASE_KEYS",
    "parse_release",
    "read_release",
]

T = TypeVar("T")

RELEASE_KEYS = (
    "release", "name", "base_model", "quantized_by", "license", "language", "tags", "repo", "description", "files",
    "imatrix", "statistics", "sensitivity", "measure", "mmproj", "mtp", "split", "memory",
)  # fmt: skip
"""The keys of a release, in the order in which messages and the page list them."""
FILE_KEYS = ("recipe", "fit", "name", "set", "imatrix", "split", "note")
FIT_KEYS = (*BUDGET_KEYS, "like", "types", "texts", "prior")
IMATRIX_KEYS = ("texts", "context", "chunks")
MEASURE_KEYS = ("texts", "chunks", "context")
MEMORY_KEYS = ("context", "kv")

_KIND = FileKind(name="release", begins="release: 1", split="describe fewer files")
_HOLDERS = re.compile(r"\{(\w*)\}")
_KNOWN_HOLDERS = ("model", "recipe")
_NAMED_TEXT = re.compile(r"([A-Za-z0-9][\w.+-]*=)(.+)", re.DOTALL)
_UNUSUAL = re.compile(r"[^\w.+-]+")
_LEAST_CONTEXT = 16
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")


def read_release(path: Path, registry: Registry) -> Release:
    """Read a release.yaml. RecipeError with every problem, or for what is none."""
    if wrong := misplaced(path, "release"):
        raise RecipeError(*wrong, file=path)
    try:
        data = path.read_bytes()[: MAX_BYTES + 1]
    except OSError as error:
        what = f"can't be read: {error.strerror or error}"
        raise RecipeError(what, "`quantrecipe release --init MODEL` writes a first one", file=path) from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError("the release isn't UTF-8 text", "save it as UTF-8", file=path, line=line) from None
    return parse_release(text, file=str(path), folder=path.parent, registry=registry)


def parse_release(text: str, *, file: str, folder: Path, registry: Registry) -> Release:
    """The same of a text. RecipeError with every problem, in line order."""
    root, problems = read_document(text, file, _KIND)
    reading = _Reading(Reader(file, problems), folder, registry)
    release = reading.release(root, text)
    if reading.read.problems:
        raise RecipeError(sorted(reading.read.problems, key=lambda it: (it.line or 0, it.column or 0)))
    return release


class _Reading:
    """Reads the nodes of one file. What is wrong becomes a problem; what is returned despite it is never used."""

    def __init__(self, read: Reader, folder: Path, registry: Registry) -> None:
        self.read = read
        self._folder = folder
        self._slots = Slots(read, registry, Uses({}, (), read), Definitions())

    def release(self, root: Node, text: str) -> Release:
        keys = self.read.mapping(root, "a release", RELEASE_KEYS) or {}
        self._check_version(root, keys.get("release"))
        files = tuple(
            it for item in self.read.items(keys.get("files"), "files") if (it := self._file(item)) is not None
        )
        if (
            root.kind == "mapping"
            and not files
            and (listed := keys.get("files", root)).value in ((), root.value)
        ):
            remedy = "write a list: `- recipe: llama.cpp/Q4_K_M`, `- fit: {size: 5GB}`"
            self.read.add(listed, "the release has no `files`", remedy)
        memory = self._memory(keys.get("memory"))
        return Release(
            file=self.read.file,
            folder=self._folder,
            text=text,
            name=self._checked(keys.get("name"), "name", _name_problem),
            base_model=self._checked(keys.get("base_model"), "base_model", repo_problem),
            quantized_by=self._line(keys.get("quantized_by"), "quantized_by"),
            license=self._checked(keys.get("license"), "license", _license_problem),
            languages=self._lines(keys.get("language"), "language"),
            tags=self._lines(keys.get("tags"), "tags"),
            repo=self._checked(keys.get("repo"), "repo", repo_problem),
            description=self.read.text(keys.get("description"), "description") or "",
            files=files,
            imatrix=self._matrix(keys.get("imatrix")),
            statistics=self._path(keys.get("statistics"), "statistics"),
            sensitivity=self._path(keys.get("sensitivity"), "sensitivity"),
            measure=self._measure(keys.get("measure")),
            mmproj=self._part(keys.get("mmproj"), "mmproj"),
            mtp=self._part(keys.get("mtp"), "mtp"),
            split=self._size(keys.get("split"), "split"),
            memory=memory,
        )

    def _check_version(self, root: Node, node: Node | None) -> None:
        if node is None:
            if root.kind == "mapping":
                self.read.add(root, "the key `release` is missing", "start with `release: 1`")
        elif node.value != 1 or node.kind != "number":
            self.read.add(
                node, f"release: {node.plain()!r} is a version that isn't known", "write release: 1"
            )

    def _file(self, node: Node) -> ReleaseFile | None:
        if node.kind == "text":  # the name of a recipe alone
            node = Node("mapping", {"recipe": Entry(node, node)}, node.line, node.column)
        keys = self.read.mapping(node, "a file", FILE_KEYS)
        if keys is None:
            return None
        recipe, wish = keys.get("recipe"), keys.get("fit")
        if (recipe is None) == (wish is None):
            what = "a file has both `recipe` and `fit`" if recipe else "a file has neither `recipe` nor `fit`"
            self.read.add(node, what, "write one of them: what it is made by, or the budget of the best mix")
        name = self._checked(keys.get("name"), "name", _template_problem) or DEFAULT_NAME
        matrix = self.read.text(keys.get("imatrix"), "imatrix", line=True) or ""
        return ReleaseFile(
            line=node.line,
            recipe=self._recipe(recipe),
            fit=None if wish is None else self._fit(wish),
            name=name,
            settings=self._settings(keys.get("set")),
            imatrix=matrix if matrix in ("", NO_MATRIX) else str(self._folder / matrix),
            split=self._size(keys.get("split"), "split"),
            note=self._line(keys.get("note"), "note"),
        )

    def _recipe(self, node: Node | None) -> str:
        return self._recipe_in_folder(self.read.text(node, "recipe", line=True) or "")

    def _recipe_in_folder(self, text: str) -> str:
        """A path is relative to the file; a name of a shipped recipe stays what it is."""
        return str(self._folder / text) if text.endswith(SUFFIXES) else text

    def _part(self, node: Node | None, key: str) -> PartWish | None:
        """The recipes of a projector or a draft head."""
        if node is None:
            return None
        if node.kind == "list" and not node.items:
            self.read.add(node, f"the list `{key}` is empty", f"name a recipe, or write {key}: {NO_PART}")
        named = [text for text, _ in self.read.texts(node, key, "the name of a recipe")]
        if node.kind == "text" and named == [NO_PART]:
            named = []
        return PartWish(line=node.line, recipes=tuple(self._recipe_in_folder(text) for text in named))

    def _fit(self, node: Node) -> FitWish | None:
        keys = self.read.mapping(node, "fit", FIT_KEYS)
        if keys is None:
            return None
        limits = {key: entry for key, entry in node.entries.items() if key in BUDGET_KEYS}
        like = self.read.text(keys.get("like"), "like", line=True) or ""
        if not like and not limits.keys() - {"ties"}:
            self.read.add(node, "fit has no limit", "say how large: {size: 5GB}, {bpw: 4.5}, {like: Q4_K_M}")
        if like and "bpw" in limits:
            self.read.add(keys["like"], "`like` and `bpw` both say how large the file is", "leave one out")
        budget = read_budget(Node("mapping", limits, node.line, node.column), self._slots) if limits else None
        prior = bool(self.read.yes_no(keys.get("prior"), "prior"))
        texts = self._texts(keys.get("texts"), "texts")
        if prior and texts:
            self.read.add(
                keys["prior"], "`prior: true` measures nothing, and `texts` are measured on", "leave one out"
            )
        return FitWish(
            budget=budget or Budget(origin=self._slots.origin(node)),
            like=self._recipe_in_folder(like),
            types=tuple(
                text for text, _ in self.read.texts(keys.get("types"), "types", "the name of a type")
            ),
            texts=texts,
            prior=prior,
            label=_label(keys),
        )

    def _settings(self, node: Node | None) -> Mapping[str, str]:
        if node is None:
            return MappingProxyType({})
        if node.kind != "mapping":
            self.read.add(node, "set must be a mapping", "write set: {NAME: value}")
            return MappingProxyType({})
        found = {}
        for key, entry in node.entries.items():
            if entry.value.kind not in ("text", "number", "yes-or-no"):
                self.read.add(entry.value, f"{key} must be one value", "write set: {NAME: value}")
                continue
            value = entry.value.value
            found[key.removeprefix("$")] = str(value).lower() if isinstance(value, bool) else str(value)
        return MappingProxyType(found)

    def _matrix(self, node: Node | None) -> MatrixWish | None:
        if node is None or (node.kind == "text" and node.value == NO_MATRIX):
            return None
        if node.kind == "text":
            path = self.read.text(node, "imatrix", line=True) or ""
            return MatrixWish(line=node.line, file=self._folder / path)
        keys = self.read.mapping(node, "imatrix", IMATRIX_KEYS)
        if keys is None:
            return None
        if "texts" not in keys:
            self.read.add(node, "imatrix has no `texts`", "name texts, or a file: imatrix: my.imatrix.gguf")
        return MatrixWish(
            line=node.line,
            texts=self._texts(keys.get("texts"), "texts"),
            contexts=self._contexts(keys.get("context")) or (512,),
            chunks=self._count(keys.get("chunks"), "chunks"),
        )

    def _measure(self, node: Node | None) -> MeasureWish | None:
        if node is None:
            return None
        keys = self.read.mapping(node, "measure", MEASURE_KEYS)
        if keys is None:
            return None
        if "texts" not in keys:
            self.read.add(node, "measure has no `texts`", "name texts that the importance wasn't measured on")
        return MeasureWish(
            line=node.line,
            texts=self._texts(keys.get("texts"), "texts"),
            chunks=self._count(keys.get("chunks"), "chunks"),
            context=next(iter(self._contexts(keys.get("context"), several=False)), None),
        )

    def _memory(self, node: Node | None) -> MemoryWish:
        keys = None if node is None else self.read.mapping(node, "memory", MEMORY_KEYS)
        if keys is None:
            return MemoryWish()
        context = self._attempt(keys.get("context"), "context", parse_tokens)
        kv = self.read.choice(keys.get("kv"), "kv", KV_TYPES)
        default = MemoryWish()
        return MemoryWish(context=context or default.context, kv=kv or default.kv)

    def _texts(self, node: Node | None, key: str) -> tuple[str, ...]:
        """Specs of texts, [NAME=]PATH[:WEIGHT], with paths that are relative to the file's folder."""
        found = self.read.texts(node, key, "a text: [NAME=]PATH")
        if node is not None and node.kind == "list" and not node.items:
            self.read.add(node, f"the list `{key}` is empty", "name texts, or leave the key out")
        return tuple(_placed(text, self._folder) for text, _ in found)

    def _contexts(self, node: Node | None, *, several: bool = True) -> tuple[int, ...]:
        if node is None:
            return ()
        if node.kind == "list" and not several:
            self.read.add(node, "context must be one number", "write context: 512")
            return ()
        items = node.items if node.kind == "list" else (node,)
        found = [self._context(item) for item in items]
        return tuple(sorted({it for it in found if it is not None}))

    def _context(self, node: Node) -> int | None:
        """A plain number may be smaller than what a model would be run with."""
        if node.kind == "number" and isinstance(node.value, int) and node.value >= _LEAST_CONTEXT:
            return int(node.value)
        return self._attempt(node, "context", parse_tokens)

    def _count(self, node: Node | None, key: str) -> int | None:
        if node is None:
            return None
        if node.kind == "number" and isinstance(node.value, int) and node.value > 0:
            return int(node.value)
        self.read.add(node, f"{key} must be a whole number, more than 0", f"write {key}: 40")
        return None

    def _size(self, node: Node | None, key: str) -> int | None:
        return self._attempt(node, key, parse_file_size)

    def _attempt(self, node: Node | None, key: str, parse: Callable[[str], T]) -> T | None:
        if node is None:
            return None
        if node.kind not in ("text", "number"):
            self.read.add(node, f"{key} must be a size or a number", f"write {key}: 8k, 50GB, …")
            return None
        return self.read.attempt(node, partial(parse, node.value), f"{key}: ")

    def _path(self, node: Node | None, key: str) -> Path | None:
        text = self._line(node, key)
        return self._folder / text if text else None

    def _line(self, node: Node | None, key: str) -> str:
        return self.read.text(node, key, line=True) or ""

    def _lines(self, node: Node | None, key: str) -> tuple[str, ...]:
        return tuple(text for text, _ in self.read.texts(node, key, "a word"))

    def _checked(self, node: Node | None, key: str, problem: Callable[[str], str]) -> str:
        """A line that has to be as somebody wants it; `problem` says what is wrong, "" for nothing."""
        text = self._line(node, key)
        if node is not None and text and (what := problem(text)):
            self.read.add(node, f"{key}: {quoted(text)} {what}")
        return text


def _placed(spec: str, folder: Path) -> str:
    """The spec of a text with its path in a folder. What exists as it stands is a path as a whole."""
    if (folder / spec).exists() or not (match := _NAMED_TEXT.fullmatch(spec)):
        return str(folder / spec)
    return f"{match[1]}{folder / match[2]}"


def _label(keys: Mapping[str, Node]) -> str:
    """ "fit-5GB", "fit-4.5bpw", "fit-like-Q4_K_M": what the mix is called, if its name has no other."""
    parts = ["fit"]
    for key, node in keys.items():
        if key == "size":
            parts.append(str(node.plain()))
        elif key == "bpw":
            parts.append(f"{node.plain()}bpw")
        elif key == "like":
            parts.append(f"like-{str(node.plain()).rpartition('/')[2].removesuffix('.yaml')}")
        elif key in BUDGET_KEYS and key != "ties":
            total = node.entries.get("total") if node.kind == "mapping" else None
            parts.append(f"{key}{node.plain() if total is None else total.value.plain()}")
    return _UNUSUAL.sub("-", "-".join(parts)).strip("-")


def _name_problem(name: str) -> str:
    return file_name_problem(f"{name}.gguf")


def _license_problem(name: str) -> str:
    if _LICENSE.fullmatch(name):
        return ""
    return "is no license as the hub names them; write apache-2.0, mit, llama3.1, gemma, other, …"


def _template_problem(name: str) -> str:
    for holder in _HOLDERS.findall(name):
        if holder not in _KNOWN_HOLDERS:
            return f"has a place {{{holder}}} that isn't known; known are {{model}} and {{recipe}}"
    if not name.endswith(".gguf"):
        return "doesn't end with .gguf"
    return file_name_problem(_HOLDERS.sub("x", name))
