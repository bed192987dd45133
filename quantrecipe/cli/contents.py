"""Contents: what is in a GGUF or in safetensors, as it is; models and all else that comes in these containers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import isfinite, prod
from pathlib import Path
from typing import Any

from quantrecipe.api import FormatSpec
from quantrecipe.errors import ModelError
from quantrecipe.gguf.file_types import file_type_name
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.checkpoint import open_checkpoint
from quantrecipe.model.gguf_file import is_gguf, read_gguf_shards, tensor_extent, type_name
from quantrecipe.model.model import Extent
from quantrecipe.plan.group import layer_ranges

__all__ = ["RECIPE_KEY", "Contents", "Line", "read_contents", "value_note", "value_type"]

RECIPE_KEY = "quantrecipe.recipe"
_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A tensor, or several that differ in the numbers in their names alone.

    name:    with `*` for the numbers, where the line stands for several tensors
    layers:  the numbers, as ranges; "" for one tensor
    at_most: True where the type isn't known, so that `nbytes` may hold some padding
    """

    name: str
    shape: tuple[int, ...]
    type: str
    nbytes: int
    extent: Extent
    at_most: bool = False
    layers: str = ""
    count: int = 1

    @property
    def weights(self) -> int:
        """Number of weights of all its tensors."""
        return prod(self.shape) * self.count

    @property
    def bits_per_weight(self) -> float:
        """As stored."""
        return 8 * self.nbytes / self.weights if self.weights else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What the headers of a file, or of all its shards, say.

    container: "GGUF version 3", "safetensors"
    metadata:  texts of a safetensors file are strings
    files:     with their sizes
    """

    path: Path
    container: str
    metadata: Mapping[str, GGUFValue]
    tensors: tuple[Line, ...]
    files: Mapping[Path, int]

    @property
    def recipe(self) -> str | None:
        """The text of the recipe that the file was made with."""
        return self.text(RECIPE_KEY)

    def text(self, key: str) -> str | None:
        """A string of the metadata."""
        value = self.metadata.get(key)
        return str(value.decode()) if value is not None and value.type is ValueType.STRING else None

    def matching(self, glob: str) -> Contents:
        """Only the tensors and keys whose names match. ModelError where none does."""
        metadata = {key: value for key, value in self.metadata.items() if fnmatchcase(key, glob)}
        tensors = tuple(line for line in self.tensors if fnmatchcase(line.name, glob))
        if not metadata and not tensors:
            what = f"has no tensor and no metadata key that matches {glob!r}"
            raise ModelError(what, "`*` stands for any text: --filter '*attn_v*'", file=self.path)
        return replace(self, metadata=metadata, tensors=tensors)

    def grouped(self) -> tuple[Line, ...]:
        """One line for tensors of the same shape and type that differ in their numbers alone."""
        groups: dict[tuple[object, ...], list[Line]] = {}
        order: dict[str, int] = {}
        for line in self.tensors:
            pattern = _NUMBER.sub("*", line.name)
            order.setdefault(pattern, len(order))
            groups.setdefault((pattern, line.shape, line.type, line.at_most), []).append(line)
        lines = [_merge(lines) for lines in groups.values()]
        return tuple(sorted(lines, key=lambda line: order[_NUMBER.sub("*", line.name)]))

    def to_json(self) -> dict[str, Any]:
        """Plain data for machines; arrays whole."""
        return {
            "path": str(self.path),
            "container": self.container,
            "files": [{"path": str(path), "nbytes": nbytes} for path, nbytes in self.files.items()],
            "metadata": {
                key: {"type": value_type(value), "value": _finite(value.decode())}
                for key, value in self.metadata.items()
            },
            "tensors": [
                {
                    "name": line.name,
                    "shape": list(line.shape),
                    "type": line.type,
                    "nbytes": line.nbytes,
                    "nbytes_exact": not line.at_most,
                    "bits_per_weight": round(line.bits_per_weight, 4),
                    "file": line.extent.path.name,
                    "offset": line.extent.offset,
                }
                for line in self.tensors
            ],
            "recipe": self.recipe,
        }


def read_contents(path: Path, load_specs: Callable[[], Mapping[int, FormatSpec]]) -> Contents:
    """What is in a file, in the shards that belong to it, or in a folder of safetensors.

    `load_specs` gives the types by their ids; it is called for GGUFs alone.
    """
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
        files={file: file.stat().st_size for file in checkpoint.files},
    )


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
        nbytes=sum(line.nbytes for line in lines),
        layers=layer_ranges(int(_NUMBER.findall(line.name)[0]) for line in lines),
        count=len(lines),
    )


def _finite(value: Any) -> Any:
    """JSON has no NaN and no Inf: they become texts."""
    if isinstance(value, list):
        return [_finite(item) for item in value] if value and isinstance(value[0], float | list) else value
    return value if not isinstance(value, float) or isfinite(value) else str(value)
