"""mirrored: a folder of this machine that stands for a repository on the hub.

    CACHE/hub/OWNER/COMMIT/NAME/                 the repository's files
        config.json, tokenizer.json, …           downloaded
        model-00001-of-00062.safetensors, …      empty: their bytes come when they are asked for
    CACHE/hub/OWNER/COMMIT/NAME.blocks/          what came of these

What lies in huggingface_hub's own cache is used from there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath

from quantrecipe.errors import ModelError
from quantrecipe.model.hub.address import HubAddress
from quantrecipe.model.hub.fetching import HubPlace, hub_folder
from quantrecipe.model.hub.listing import HubEntry, Listing, huggingface_hub, list_repository
from quantrecipe.model.remote.block_file import BlockFile, read_heads
from quantrecipe.model.remote.blocks import Blocks
from quantrecipe.model.remote.small_files import LARGEST_SMALL, SMALL, WEIGHTS, keep_small
from quantrecipe.remote_files import add_place, add_remote_file

__all__ = ["mirrored"]

_AT_ONCE = 16  # small files


def mirrored(ref: str | Path) -> Path:
    """Where a model on the hub can be opened: the folder or file that `hf://…` means.

    ModelError where the hub doesn't have it, refuses, or can't be reached.
    """
    address = HubAddress.parse(ref)
    listing = list_repository(address)
    meant = _meant(address, listing)
    folder = hub_folder(address, listing.commit)
    blocks = Blocks(folder.with_name(f"{address.name}.blocks"))
    try:
        weights = _lay_out(address, listing, meant, folder, blocks)
    except OSError as error:
        what = f"the files of {address} can't be kept: {error.strerror or error}"
        raise ModelError(what, "name another folder with QUANTRECIPE_CACHE_DIR", file=folder) from error
    read_heads(it for it in weights if it.size and str(it.place).endswith(".safetensors"))
    return folder / address.path


def _meant(address: HubAddress, listing: Listing) -> list[HubEntry]:
    """The files in the folder that the address means, or in that of the file; and small ones in folders of that.

    ModelError where there is none.
    """
    path = PurePosixPath(address.path)
    names = [entry.path for entry in listing.entries]
    if address.path in names:
        path = path.parent
    here = [entry for entry in listing.entries if PurePosixPath(entry.path).parent == path]
    # Such as 1_Pooling/config.json.
    below = [it for it in listing.entries if PurePosixPath(it.path).parent.parent == path and it not in here]
    found = [*here, *(it for it in below if it.path.endswith(SMALL))]
    if not found:
        some = ", ".join(sorted(name for name in names if name.endswith(WEIGHTS))[:5])
        what = (
            f"{address.repo} has no file or folder {address.path!r}"
            if address.path
            else f"{address.repo} is empty"
        )
        raise ModelError(what, f"it has {some}" if some else "look at its page on the hub")
    if not any(entry.path.endswith(WEIGHTS) for entry in here):
        what = f"{address} holds no .safetensors and no .gguf files"
        raise ModelError(what, "look for another repository with the same model, or download this one")
    return found


def _lay_out(
    address: HubAddress, listing: Listing, meant: Sequence[HubEntry], folder: Path, blocks: Blocks
) -> list[BlockFile]:
    """Make the folder; the files in it whose bytes come later."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, small = [], []
    for entry in meant:
        path = folder / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        place = HubPlace(
            address=address, commit=listing.commit, path=entry.path, size=entry.size, sha256=entry.sha256
        )
        is_weights = entry.path.endswith(WEIGHTS)
        if is_weights and not path.exists() and (cached := _cached(place)):
            with suppress(OSError):  # no links on this file system: it is downloaded
                path.symlink_to(cached)
        if is_weights and not path.is_symlink():
            path.touch()
            file = BlockFile(place, blocks)
            add_remote_file(path, file, place)
            weights.append(file)
        elif is_weights:
            add_place(path, place)
        elif entry.path.endswith(SMALL) and entry.size <= LARGEST_SMALL:
            add_place(path, place)
            small += [(place, path)] if not path.exists() else []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda it: _download(*it), small))
    return weights


def _download(place: HubPlace, path: Path) -> None:
    data = Path(cached).read_bytes() if (cached := _cached(place)) else b""
    if len(data) != place.size and place.size:
        data = place.fetch(0, place.size)
    keep_small(path, data)


def _cached(place: HubPlace) -> str:
    """The file in huggingface_hub's cache, "" where it isn't there."""
    found = huggingface_hub().try_to_load_from_cache(place.address.repo, place.path, revision=place.commit)
    whole = isinstance(found, str) and os.path.isfile(found) and os.path.getsize(found) == place.size  # noqa: PTH113, PTH202
    return found if whole else ""
