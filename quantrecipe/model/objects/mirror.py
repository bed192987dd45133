"""mirrored: a folder of this machine that stands for a model in an object store.

    CACHE/objects/SCHEME/ADDRESS/NOW/NAME/       the model's files
        config.json, tokenizer.json, …           downloaded
        model-00001-of-00062.safetensors, …      empty: their bytes come when they are asked for
    CACHE/objects/SCHEME/ADDRESS/blocks/         what came of these

ADDRESS is a hash of the folder's address, NOW one of what its store says of all files: if one is replaced, another
folder stands for the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.model.objects.address import ObjectAddress
from quantrecipe.model.objects.object_place import ObjectPlace, folder_of, object_place
from quantrecipe.model.objects.refusals import refusals
from quantrecipe.model.remote.block_file import BlockFile, read_heads
from quantrecipe.model.remote.blocks import Blocks
from quantrecipe.model.remote.small_files import LARGEST_SMALL, SMALL, WEIGHTS, keep_small
from quantrecipe.model.shards import SHARD
from quantrecipe.remote_files import add_place, add_remote_file
from quantrecipe.units import bytes_text

__all__ = ["mirrored"]

_AT_ONCE = 16
_MOST = 2000  # files in a folder with a model; the largest models have some hundred
_MOST_SMALL = 1 << 30
"""Bytes of small files together: the largest models have 100 MB."""
_FOLDERS = 32  # within it, of which small files are taken: 1_Pooling/config.json


def mirrored(ref: str | Path) -> Path:
    """Where a model in an object store can be opened: the folder or file that the address means.

    ModelError where it isn't there, isn't shown, or can't be reached.
    """
    address = ObjectAddress.parse(ref)
    folder, names = _found(address)
    key = folder.key
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        places = dict(
            zip(
                names,
                pool.map(lambda name: object_place(_at(folder, name, address), key), names),
                strict=True,
            )
        )
    small = sum(it.size for name, it in places.items() if not name.endswith(WEIGHTS))
    if small > _MOST_SMALL:
        what = f"{folder} holds {bytes_text(small)} of texts (.json, .txt, …), more than a model has"
        raise ModelError(what, "give a folder that holds one model, and nothing else")
    now = hashlib.sha256(repr(sorted((name, it.identity) for name, it in places.items())).encode())
    here = folder_of(folder.scheme, key) / now.hexdigest()[:16] / folder.name
    blocks = Blocks(folder_of(folder.scheme, key) / "blocks")
    try:
        weights = _lay_out(places, here, blocks)
    except OSError as error:
        what = f"the files of {address} can't be kept: {error.strerror or error}"
        raise ModelError(what, "name another folder with QUANTRECIPE_CACHE_DIR", file=here) from error
    blocks.replace(file.place.key for file in weights)
    read_heads(it for it in weights if it.size and str(it.place).endswith(".safetensors"))
    return here / address.name if address.name in names and address != folder else here


def _at(folder: ObjectAddress, name: str, address: ObjectAddress) -> ObjectAddress:
    return address if name == address.name and address != folder else folder.child(name)


def _found(address: ObjectAddress) -> tuple[ObjectAddress, list[str]]:
    """The folder that the address means, or that of the file; and the names of the model's files in it.

    ModelError where there is none.
    """
    if address.scheme in ("http", "https"):  # a page of links is no folder
        return address.parent or address, [address.name]
    if address.name.endswith((*WEIGHTS, ".safetensors.index.json")) and address.parent is not None:
        try:
            beside = _listed(address.parent)
        except ModelError:  # who may read an object may not always see what is beside it
            return address.parent, [address.name]
        if address.name.endswith(".gguf"):  # its shards; other files beside it are other models
            shard = SHARD.fullmatch(address.name)
            begin = address.name if shard is None else f"{shard['stem']}-"
            beside = [name for name in beside if name.startswith(begin) and SHARD.fullmatch(name)]
        return address.parent, sorted({*beside, address.name})
    names = _listed(address)
    if not any(name.endswith(WEIGHTS) and "/" not in name for name in names):
        what = f"{address} holds no .safetensors and no .gguf files"
        raise ModelError(what, "give the folder that holds them, or a file")
    return address, names


def _listed(folder: ObjectAddress) -> list[str]:
    """Names of files that a model may need, with those of small ones in folders of the folder."""
    files, folders = _entries(folder)
    names = [name for name in files if name.endswith((*WEIGHTS, *SMALL))]
    if len(names) > _MOST:
        raise ModelError(
            f"{folder} holds {len(names):,} files, more than a model has", "give the folder of one model"
        )
    if any(name.endswith(".safetensors") for name in names):
        for within in folders[:_FOLDERS]:
            below = _entries(folder.child(within))[0]
            names += [f"{within}/{name}" for name in below if name.endswith(SMALL)]
    return sorted(names)


def _entries(folder: ObjectAddress) -> tuple[list[str], list[str]]:
    """The names of files and of folders. ModelError for a name that can't be one."""
    with refusals(folder):
        system, path = folder.opened()
        system.invalidate_cache()
        found: Sequence[Mapping[str, Any]] = system.ls(path, detail=True)
    files: list[str] = []
    folders: list[str] = []
    for entry in found:
        whole = str(entry["name"]).rstrip("/")
        name = whole.rpartition("/")[2]
        if whole.strip("/") == path.strip("/"):  # the folder itself, as some stores have it
            continue
        if not name or name in (".", "..") or not name.isprintable() or set(name) & set('\\:*?"<>|'):
            what = f"{folder} has a file {name!r}, which can't be the name of one"
            raise ModelError(what, "use only models whose source you trust")
        (folders if entry.get("type") == "directory" else files).append(name)
    return files, sorted(folders)


def _lay_out(places: Mapping[str, ObjectPlace], folder: Path, blocks: Blocks) -> list[BlockFile]:
    """Make the folder; the files in it whose bytes come later."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, small = [], []
    for name, place in places.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(WEIGHTS):
            path.touch()
            file = BlockFile(place, blocks)
            add_remote_file(path, file, None if place.address.secret else place)
            weights.append(file)
        elif place.size <= LARGEST_SMALL:
            add_place(path, place)
            small += [(place, path)] if not path.exists() else []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda it: keep_small(it[1], it[0].fetch(0, it[0].size)), small))
    return weights
