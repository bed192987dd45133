"""Produced: a GGUF as it is on the disk, with what it says of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quantrecipe.errors import ModelError
from quantrecipe.gguf.header import GGUFHeader
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.gguf_file import open_gguf, read_gguf_shards
from quantrecipe.model.model import Model
from quantrecipe.model.source.source import Extent
from quantrecipe.plan.metadata import DATA_HASHES, ENCODINGS, SOURCE_HASHES
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["Produced", "read_produced"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Produced:
    """A file, or all shards of one.

    model:     what is in it, as a model; its tensors in the order of the files
    encodings, sources, data: recorded digests by tensor; empty where the file doesn't record them, or of tensors that
               it doesn't have any more
    """

    path: Path
    shards: tuple[GGUFHeader, ...]
    model: Model
    encodings: Mapping[str, str]
    sources: Mapping[str, str]
    data: Mapping[str, str]

    @property
    def metadata(self) -> Mapping[str, GGUFValue]:
        """The metadata of the first file, with what says which shard it is."""
        return self.shards[0].metadata

    @property
    def has_provenance(self) -> bool:
        """True if it says that quantrecipe made it."""
        return any(key.startswith("quantrecipe.") for key in self.metadata)

    def text(self, key: str) -> str | None:
        """A text among the metadata; None where there is none under this key."""
        value = self.metadata.get(key)
        return str(value.decode()) if value is not None and value.type is ValueType.STRING else None

    def tensor(self, name: str) -> TensorInfo:
        """The tensor of this name."""
        return next(tensor for tensor in self.model.tensors if tensor.name == name)

    def extent(self, name: str) -> Extent:
        """Where in which file a tensor's data is."""
        return self.model.sources[name].extents[0]


def read_produced(path: Path, registry: Registry) -> Produced:
    """The headers of a GGUF. ModelError where they can't be read, or can't be true."""
    shards = read_gguf_shards(path)
    model = open_gguf(path, registry.by_ggml_type)
    names = [tensor.name for tensor in model.tensors]
    records = {key: _digests(shards[0], key, names) for key in (ENCODINGS, SOURCE_HASHES, DATA_HASHES)}
    return Produced(
        path=path,
        shards=shards,
        model=model,
        encodings=records[ENCODINGS],
        sources=records[SOURCE_HASHES],
        data=records[DATA_HASHES],
    )


def _digests(header: GGUFHeader, key: str, names: list[str]) -> dict[str, str]:
    """By tensor; {} where the file doesn't have them, or where tensors were added or removed since."""
    value = header.metadata.get(key)
    if value is None or (_is_list(header, key) and {len(names)}.isdisjoint(_lengths(header))):
        return {}
    if value.item_type is not ValueType.STRING or len(value) != len(names):
        count = len(value) if value.type in (ValueType.ARRAY, ValueType.STRING) else 1
        what = f"{key} has {count} values for {len(names)} tensors"
        raise ModelError(
            what, "the header is damaged: fetch the file again, or make it again", file=header.path
        )
    return dict(zip(names, map(str, value.decode()), strict=True))


def _is_list(header: GGUFHeader, key: str) -> bool:
    return header.metadata[key].item_type is ValueType.STRING


def _lengths(header: GGUFHeader) -> set[int]:
    """How many tensors the recorded lists are about. One that differs from the others is damage."""
    keys = (ENCODINGS, SOURCE_HASHES, DATA_HASHES)
    return {len(header.metadata[key]) for key in keys if key in header.metadata and _is_list(header, key)}
