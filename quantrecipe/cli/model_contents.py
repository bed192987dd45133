"""Contents: what is in a GGUF or in safetensors, as it is; models and all else that comes in these containers.

Recipes name the GGUF's tensors. Of a Hugging Face folder, both names are known: the one that the GGUF will have, and
the stored one; a shape file has the GGUF's alone.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from math import isfinite, prod
from pathlib import Path
from typing import Any

from quantrecipe.api import FormatSpec
from quantrecipe.errors import ModelError
from quantrecipe.gguf.file_types import file_type_name
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.misplaced import is_gguf_inside, misplaced
from quantrecipe.model.checkpoint import Checkpoint, open_checkpoint
from quantrecipe.model.gguf_file import is_gguf, read_gguf_shards, tensor_extent, type_name
from quantrecipe.model.model import Model
from quantrecipe.model.source.source import Extent
from quantrecipe.plain_data import fields_of, rounded_bits
from quantrecipe.recipe.writing.braces import braced
from quantrecipe.remote_files import file_size
from quantrecipe.tensor import split_name

__all__ = [
    "RECIPE_KEY",
    "Contents",
    "Line",
    "Role",
    "contents_of_shapes",
    "finite",
    "read_contents",
    "roles_in",
    "value_note",
    "value_type",
    "with_gguf_names",
]

RECIPE_KEY = "quantrecipe.recipe"
# A part of a name that is a number: a layer, or an expert.
_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A tensor, or several that differ in the numbers in their names alone.

    name:    with `*` for the numbers, where the line stands for several tensors
    stored:  what the file calls it, where that is another name; `*` for the numbers of experts that are stacked
    extent:  None where it lies in no file by itself
    layers:  the numbers, as ranges; "" for one tensor
    at_most: True where the type isn't known, so that `nbytes` may hold some padding
    """

    name: str
    shape: tuple[int, ...]
    type: str
    nbytes: int
    extent: Extent | None = None
    stored: str = ""
    at_most: bool = False
    layers: str = ""
    count: int = 1

    @property
    def weights(self) -> int:
        """Number of weights of all its tensors."""
        return prod(self.shape) * self.count

    @property
    def role(self) -> str:
        """The name without block and `.weight`, as recipes say it: "attn_v"."""
        return split_name(self.name)[1]

    def is_called(self, glob: str) -> bool:
        """True if one of its names matches: as it is shown, stored, or said in a recipe."""
        names = (self.name, self.name.removesuffix(".weight"), self.role, self.stored)
        return any(fnmatchcase(name, glob) for name in names)

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight as the file stores them; 0 where there are no weights."""
        return 8 * self.nbytes / self.weights if self.weights else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What the headers of a file, or of all its shards, say.

    container: "GGUF version 3", "safetensors"
    metadata:  texts of a safetensors file are strings
    tensors:   as they are stored
    files:     with their sizes
    converted: the tensors under the GGUF's names, with the stored ones beside them, where these differ
    names:     the GGUF's names of each stored tensor, where they differ; several of one that is taken apart
    checkpoint: what was read of safetensors
    """

    path: Path
    container: str
    metadata: Mapping[str, GGUFValue]
    tensors: tuple[Line, ...]
    files: Mapping[Path, int]
    converted: tuple[Line, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    checkpoint: Checkpoint | None = field(default=None, repr=False, compare=False)

    @property
    def shown(self) -> tuple[Line, ...]:
        """The tensors under the names that recipes use, as far as these are known."""
        return self.converted or self.tensors

    @property
    def recipe(self) -> str | None:
        """The text of the recipe that the file was made with."""
        return self.text(RECIPE_KEY)

    def text(self, key: str) -> str | None:
        """The value of a key whose value is a string, else None."""
        value = self.metadata.get(key)
        return str(value.decode()) if value is not None and value.type is ValueType.STRING else None

    def matching(self, glob: str) -> Contents:
        """Only the tensors and keys whose names match. ModelError where none does."""
        metadata = {key: value for key, value in self.metadata.items() if fnmatchcase(key, glob)}
        converted = tuple(line for line in self.converted if line.is_called(glob))
        kept = {line.name for line in converted}
        tensors = tuple(
            line for line in self.tensors if line.is_called(glob) or kept & {*self.names.get(line.name, ())}
        )
        if not metadata and not tensors:
            what = f"has no tensor and no metadata key that matches {glob!r}"
            raise ModelError(what, "`*` stands for any text: --filter '*attn_v*'", file=self.path)
        return replace(self, metadata=metadata, tensors=tensors, converted=converted)

    def grouped(self) -> tuple[Line, ...]:
        """One line for tensors of the same shape and type that differ in their numbers alone."""
        groups: dict[tuple[object, ...], list[Line]] = {}
        order: dict[str, int] = {}
        for line in self.shown:
            pattern = _NUMBER.sub("*", line.name)
            order.setdefault(pattern, len(order))
            groups.setdefault((pattern, line.shape, line.type, line.at_most), []).append(line)
        lines = [_merge(lines) for lines in groups.values()]
        return tuple(sorted(lines, key=lambda line: order[_NUMBER.sub("*", line.name)]))

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order; arrays are whole."""
        return {
            **fields_of(self, "path", "container"),
            "files": [{"path": path, "nbytes": nbytes} for path, nbytes in self.files.items()],
            "metadata": {
                key: {"type": value_type(value), "value": finite(value.decode())}
                for key, value in self.metadata.items()
            },
            "tensors": [
                {
                    "name": line.name,
                    "recipe_name": self._recipe_name(line),
                    **fields_of(line, "shape", "type", "nbytes"),
                    "nbytes_exact": not line.at_most,
                    "bits_per_weight": rounded_bits(line.bits_per_weight),
                    "file": None if line.extent is None else line.extent.path.name,
                    "offset": None if line.extent is None else line.extent.offset,
                }
                for line in self.tensors
            ],
            "recipe": self.recipe,
        }

    def _recipe_name(self, line: Line) -> str | None:
        """What a recipe calls a stored tensor, a pattern where that becomes several; None where it isn't known."""
        if self.converted and line.name not in self.names:
            return None
        names = self.names.get(line.name, (line.name,))
        return (
            names[0].removesuffix(".weight")
            if len(names) == 1
            else ", ".join(braced([name.removesuffix(".weight") for name in names]))
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """The tensors of one role and shape.

    types: of all of them, in order
    """

    role: str
    shape: tuple[int, ...]
    types: tuple[str, ...]
    count: int
    weights: int
    nbytes: int


def roles_in(lines: Iterable[Line]) -> list[Role]:
    """The roles of these tensors, in the order in which they come."""
    groups: dict[tuple[str, tuple[int, ...]], list[Line]] = {}
    for line in lines:
        groups.setdefault((_NUMBER.sub("*", line.role), line.shape), []).append(line)
    return [
        Role(
            role=role,
            shape=shape,
            types=tuple(dict.fromkeys(line.type for line in members)),
            count=len(members),
            weights=sum(line.weights for line in members),
            nbytes=sum(line.nbytes for line in members),
        )
        for (role, shape), members in groups.items()
    ]


def read_contents(path: Path, load_specs: Callable[[], Mapping[int, FormatSpec]]) -> Contents:
    """What is in a file, in the shards that belong to it, or in a folder of safetensors.

    `load_specs` gives the types by their ids; it is called for GGUFs alone.
    """
    if not is_gguf_inside(path) and (wrong := misplaced(path, "model")):
        raise ModelError(*wrong, file=path)
    if not path.exists():
        raise ModelError("there is no such file or folder", "check the path", file=path)
    if path.is_file() and is_gguf(path):
        return _of_gguf(path, load_specs())
    if path.is_file() and not path.name.endswith((".safetensors", ".safetensors.index.json")):
        raise ModelError("is neither a GGUF nor safetensors", "give a .gguf or .safetensors file", file=path)
    checkpoint = open_checkpoint(path)
    tensors = tuple(
        Line(name=t.name, shape=t.shape, type=t.dtype, nbytes=t.extent.nbytes, extent=t.extent)
        for t in checkpoint.tensors.values()
    )
    return Contents(
        path=path,
        container="safetensors",
        metadata={key: GGUFValue.of(ValueType.STRING, text) for key, text in checkpoint.metadata.items()},
        tensors=tensors,
        files={file: file_size(file) for file in checkpoint.files},
        checkpoint=checkpoint,
    )


def contents_of_shapes(model: Model, specs: Mapping[int, FormatSpec]) -> Contents:
    """The contents that a shape file describes, with sizes as if its types were stored."""
    by_name = {spec.name: spec for spec in specs.values()}
    return Contents(
        path=model.path,
        container="shapes",
        metadata=model.metadata,
        tensors=tuple(
            Line(
                name=tensor.name,
                shape=tensor.shape,
                type=tensor.dtype,
                nbytes=by_name[tensor.dtype].tensor_bytes(tensor.shape) if tensor.dtype in by_name else 0,
            )
            for tensor in model.tensors
        ),
        files={path: path.stat().st_size for path in model.files if path.is_file()},
    )


def with_gguf_names(contents: Contents, model: Model) -> Contents:
    """The contents of a Hugging Face folder, with the names that its tensors have in a GGUF."""
    stored: dict[Path, dict[int, Line]] = {}
    for line in contents.tensors:
        if line.extent is not None:
            stored.setdefault(line.extent.path, {})[line.extent.offset] = line
    starts = {path: sorted(lines) for path, lines in stored.items()}
    names: dict[str, tuple[str, ...]] = {}
    converted = []
    for tensor in model.tensors:
        source = model.sources[tensor.name]
        lines: dict[str, Line] = {}
        for extent in source.extents:  # of one that is taken apart, an extent begins inside
            offsets = starts[extent.path]
            line = stored[extent.path][offsets[bisect_right(offsets, extent.offset) - 1]]
            lines[line.name] = line
        for name in lines:
            names[name] = (*names.get(name, ()), tensor.name)
        converted.append(
            Line(
                name=tensor.name,
                shape=tensor.shape,
                type=next((line.type for line in lines.values()), tensor.dtype),
                nbytes=source.nbytes,
                stored=_in_common(list(lines)),
            )
        )
    return replace(contents, converted=tuple(converted), names=names)


def _in_common(names: Sequence[str]) -> str:
    """The names as one, with `*` for the parts in which they differ: those of experts."""
    parts = [name.split(".") for name in names]
    if len({len(it) for it in parts}) > 1:
        return f"{names[0]}, …"
    return ".".join(same[0] if len(set(same)) == 1 else "*" for same in zip(*parts, strict=True))


def value_type(value: GGUFValue) -> str:
    """ "uint32"; "string[2,048]" for an array."""
    if value.item_type is None:
        return value.type.name.lower()
    return f"{value.item_type.name.lower()}[{len(value)}]"


def value_note(key: str, value: GGUFValue) -> str:
    """What a number means, where it isn't plain: 15 is Q4_K_M."""
    if key == "general.file_type" and value.type is ValueType.UINT32:
        return file_type_name(value.decode()) or "unknown"
    return ""


def _of_gguf(path: Path, specs: Mapping[int, FormatSpec]) -> Contents:
    shards = read_gguf_shards(path)
    lines = []
    for shard in shards:
        rooms = shard.rooms()
        for entry in shard.tensors:
            extent = tensor_extent(shard, entry, rooms[entry.name], specs)
            lines.append(
                Line(
                    name=entry.name,
                    shape=entry.shape,
                    type=type_name(entry.ggml_type, specs),
                    nbytes=extent.nbytes,
                    extent=extent,
                    at_most=entry.ggml_type not in specs,
                )
            )
    return Contents(
        path=path,
        container=f"GGUF version {shards[0].version}",
        metadata=shards[0].metadata,
        tensors=tuple(lines),
        files={shard.path: shard.file_size for shard in shards},
    )


def _merge(lines: list[Line]) -> Line:
    if len(lines) == 1:
        return lines[0]
    first = lines[0]
    return replace(
        first,
        name=_NUMBER.sub("*", first.name),
        stored=_NUMBER.sub("*", first.stored),
        nbytes=sum(line.nbytes for line in lines),
        layers=layer_ranges(int(_NUMBER.findall(line.name)[0]) for line in lines),
        count=len(lines),
    )


def finite(value: Any) -> Any:
    """The value with NaN and Inf, which JSON doesn't have, as texts: "nan" says more than null."""
    if isinstance(value, list):
        return [finite(item) for item in value] if value and isinstance(value[0], float | list) else value
    return value if not isinstance(value, float) or isfinite(value) else str(value)
