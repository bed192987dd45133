"""A GGUF, split or whole, as a Model.

    model.gguf
    model-00001-of-00003.gguf, …      each with split.no, split.count and split.tensors.count; all other
                                      metadata is in the first

The sizes of types come from the specs that the caller hands in. A tensor of a type that isn't among them is
listed with the room that it has (padding included), under a name that no format has: `type 139`, or `type 9 (Q8_1)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from quantrecipe.api import FormatSpec
from quantrecipe.errors import FormatError, ModelError
from quantrecipe.gguf.header import MAGIC, GGUFHeader, TensorEntry, read_header
from quantrecipe.gguf.values import metadata_text
from quantrecipe.model.model import Model
from quantrecipe.model.shards import shard_paths
from quantrecipe.model.source.source import Extent, Stored, TensorSource
from quantrecipe.model.storable import check_name
from quantrecipe.tensor import TensorInfo

__all__ = ["is_gguf", "open_gguf", "read_gguf_shards", "tensor_extent", "type_name"]

_AGAIN = "the file is damaged or incomplete: download it again"
_SPLIT_NO, _SPLIT_COUNT, _SPLIT_TENSORS = "split.no", "split.count", "split.tensors.count"

_NEVER_STORED = {
    4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 15: "Q8_K",
    31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8",
}  # fmt: skip
"""Types for activations only, and those that were taken out. Source: ggml.h, enum ggml_type."""


def is_gguf(path: Path) -> bool:
    """True for a file that begins as a GGUF does, or is called one. ModelError where it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC or path.suffix == ".gguf"
    except FileNotFoundError as error:
        raise ModelError("there is no such file or folder", "check the path", file=path) from error
    except OSError as error:
        raise ModelError(f"can't be read: {error.strerror or error}", file=path) from error


def open_gguf(path: str | Path, specs: Mapping[int, FormatSpec]) -> Model:
    """The model in a GGUF, or in the set of GGUFs that a shard belongs to. `specs`: by ggml type id."""
    path = Path(path)
    shards = read_gguf_shards(path)
    metadata = {key: value for key, value in shards[0].metadata.items() if not key.startswith("split.")}
    if metadata_text(metadata, "general.type") == "imatrix":
        raise ModelError("is an importance matrix, not a model", "give it as --imatrix", file=path)
    tensors: list[TensorInfo] = []
    sources: dict[str, TensorSource] = {}
    for shard in shards:
        rooms = shard.rooms()
        for entry in shard.tensors:
            if entry.name in sources:
                raise ModelError(f"tensor {entry.name!r} is in another shard, too", _AGAIN, file=shard.path)
            check_name(entry.name, shard.path)
            extent = tensor_extent(shard, entry, rooms[entry.name], specs)
            info = TensorInfo.from_name(entry.name, entry.shape, type_name(entry.ggml_type, specs))
            tensors.append(info)
            sources[info.name] = Stored(name=info.name, shape=info.shape, dtype=info.dtype, extents=(extent,))
    return Model(
        path=path,
        container="gguf",
        arch=metadata_text(metadata, "general.architecture"),
        tensors=tuple(tensors),
        metadata=metadata,
        sources=sources,
        alignment=shards[0].alignment,
        files=tuple(shard.path for shard in shards),
    )


def read_gguf_shards(path: Path) -> tuple[GGUFHeader, ...]:
    """The headers of all shards, the first shard's first; of one file where the model isn't split."""
    header = read_header(path)
    count = _number(header, _SPLIT_COUNT)
    if count <= 1:
        return (header,)
    number = _number(header, _SPLIT_NO)
    paths = shard_paths(path)
    if len(paths) != count or not 0 <= number < count or paths[number] != path:
        remedy = f"name it NAME-{number + 1:05}-of-{count:05}.gguf, beside the others"
        raise ModelError(f"is shard {number + 1} of {count}, but its name doesn't say so", remedy, file=path)
    shards = tuple(header if shard == path else read_header(shard) for shard in paths)
    for expected, shard in enumerate(shards):
        if (_number(shard, _SPLIT_NO), _number(shard, _SPLIT_COUNT)) != (expected, count):
            what = f"is not shard {expected + 1} of {count}, as its name says"
            raise ModelError(what, "fetch all shards of one model again", file=shard.path)
    found, claimed = sum(len(shard.tensors) for shard in shards), _number(shards[0], _SPLIT_TENSORS)
    if found != claimed:
        what = f"says that its {count} shards hold {claimed} tensors, but they hold {found}"
        raise ModelError(what, "fetch all shards of one model again", file=shards[0].path)
    return shards


def tensor_extent(
    header: GGUFHeader, entry: TensorEntry, room: int, specs: Mapping[int, FormatSpec]
) -> Extent:
    """Where a tensor's bytes are. ModelError where its type needs more than the room it has."""
    nbytes = room
    if (spec := specs.get(entry.ggml_type)) is not None:
        try:
            nbytes = spec.tensor_bytes(entry.shape)
        except FormatError as error:
            raise ModelError(f"tensor {entry.name!r}: {error}", _AGAIN, file=header.path) from error
    if nbytes > room:
        last = header.data_start + entry.offset + room == header.file_size
        where = "the end of the file" if last else "the next tensor"
        what = f"tensor {entry.name!r} has {nbytes:,} bytes, but only {room:,} up to {where}"
        raise ModelError(what, _AGAIN, file=header.path)
    offset = header.data_start + entry.offset
    return Extent(path=header.path, offset=offset, nbytes=nbytes, file_size=header.file_size)


def type_name(ggml_type: int, specs: Mapping[int, FormatSpec]) -> str:
    """ "Q4_K"; "type 139" where no spec has the id, "type 9 (Q8_1)" where ggml has no file with it."""
    if (spec := specs.get(ggml_type)) is not None:
        return spec.name
    return (
        f"type {ggml_type} ({_NEVER_STORED[ggml_type]})"
        if ggml_type in _NEVER_STORED
        else f"type {ggml_type}"
    )


def _number(header: GGUFHeader, key: str) -> int:
    value = header.metadata.get(key)
    if value is None:
        return 0
    number = value.decode()
    if type(number) is not int:
        raise ModelError(f"{key} is {number!r:.40} (expected: a number)", _AGAIN, file=header.path)
    return number
