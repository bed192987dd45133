"""All tensors of a safetensors model, whether it lies in one file or in many.

    model.safetensors                     one file
    model.safetensors.index.json          {"weight_map": {"NAME": "model-00001-of-00002.safetensors", …}}
    model-00001-of-00002.safetensors, …   shards, with or without an index

An index is not believed: it must name files of its own folder (links may point elsewhere, as in Hugging
Face's cache), and tell of each tensor where it really is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from quantrecipe.errors import ModelError, Problem, abridged
from quantrecipe.model.safetensors import (
    Checkpoint,
    StoredTensor,
    parse_json_object,
    read_safetensors_header,
)
from quantrecipe.model.shards import AGAIN, SHARD, require_all, shard_paths

__all__ = ["Checkpoint", "open_checkpoint", "read_index"]

_INDEX = ".safetensors.index.json"
_MAX_INDEX = 100_000_000  # bytes, as many as safetensors allows a header; the largest in use have about 10 MB
_LONGEST_NAME = 255  # bytes: no file system in use takes more
_SHOWN = 5  # models of a folder that holds several


def open_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint that a folder, an index, a safetensors file, or any shard of one belongs to."""
    path = Path(path)
    if path.is_dir():
        path = _in_folder(path)
    if path.name.endswith(_INDEX):
        return _from_index(path)
    for index in sorted(path.parent.glob(f"*{_INDEX}")):
        if SHARD.fullmatch(path.name) and path.name in {file.name for file in read_index(index).values()}:
            return _from_index(index)
    return _join(shard_paths(path))


def read_index(path: str | Path) -> dict[str, Path]:
    """Tensor name → shard, as the index says. ModelError where it names what can't be, or isn't there."""
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_INDEX:
            raise ModelError(f"is larger than {_MAX_INDEX:,} bytes", "it can't be an index", file=path)
        raw = path.read_bytes()
    except OSError as error:
        raise ModelError(f"can't be read: {error.strerror or error}", file=path) from error
    weight_map = parse_json_object(raw, path, "the index").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError("has no weight_map (expected: tensor names and file names)", AGAIN, file=path)
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not _is_plain(name):
            what = f"says that tensor {tensor!r} is in {name!r:.80} (expected: a file name, without a folder)"
            raise ModelError(what, "use only models whose source you trust", file=path)
    shards = {name: path.with_name(name) for name in sorted(set(weight_map.values()))}
    require_all([shard for shard in shards.values() if not shard.exists()], path)
    return {tensor: shards[name] for tensor, name in weight_map.items()}


def _is_plain(name: str) -> bool:
    if len(name.encode()) > _LONGEST_NAME:  # asking whether it is there would raise
        return False
    return name.endswith(".safetensors") and name.isprintable() and not set(name) & set('/\\:*?"<>|')


def _in_folder(folder: Path) -> Path:
    """The file that stands for a folder's model: what transformers would take, else the only one there is."""
    if (plain := folder / "model.safetensors").exists():
        return plain
    indexes = sorted(folder.glob(f"*{_INDEX}"))
    if (usual := folder / f"model{_INDEX}") in indexes:
        return usual
    if len(indexes) == 1:
        return indexes[0]
    found = sorted(folder.glob("*.safetensors"))
    sets = {(match["stem"], match["count"]) if (match := SHARD.fullmatch(f.name)) else f.name for f in found}
    if not found:
        raise ModelError("holds no .safetensors file", "give a folder that holds a model", file=folder)
    if len(sets) > 1:
        names = ", ".join(file.name for file in found[:_SHOWN])
        raise ModelError(f"holds several models ({names})", "give the file that you mean", file=folder)
    return found[0]


def _from_index(index: Path) -> Checkpoint:
    weight_map = read_index(index)
    checkpoint = _join(tuple(sorted(set(weight_map.values()))))
    problems = []
    for name, shard in weight_map.items():
        stored = checkpoint.tensors.get(name)
        if stored is None or stored.extent.path != shard:
            what = f"tensor {name!r} is not in {shard.name}"
            problems.append(Problem(what=what, remedy=AGAIN, file=index))
    for name, stored in checkpoint.tensors.items():
        if name not in weight_map:
            what = f"tensor {name!r} of {stored.extent.path.name} is missing in the index"
            problems.append(Problem(what=what, remedy=AGAIN, file=index))
    if problems:
        raise ModelError(abridged(problems))
    return replace(checkpoint, index=index)


def _join(paths: tuple[Path, ...]) -> Checkpoint:
    tensors: dict[str, StoredTensor] = {}
    metadata: dict[str, str] = {}
    for path in paths:
        header = read_safetensors_header(path)
        for name, stored in header.tensors.items():
            if name in tensors:
                what = f"tensor {name!r} is also in {tensors[name].extent.path.name}"
                raise ModelError(what, "delete the file that isn't part of the model", file=path)
            tensors[name] = stored
        metadata = {**header.metadata, **metadata}
    if not tensors:
        raise ModelError("holds no tensors", "give a file that holds a model", file=paths[0])
    return Checkpoint(tensors=tensors, files=paths, metadata=metadata)
