"""Tensors of an older output that a new one may copy instead of quantizing them again.

An output records, for each tensor, a digest of what made its bytes (type, options, importance, version of the
encoder) and the hash of its source. Where both are the same again, so are the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quantrecipe.errors import ModelError
from quantrecipe.model.gguf_file import read_gguf_shards
from quantrecipe.model.model import Extent
from quantrecipe.plan.metadata import ENCODINGS, SOURCE_HASHES

__all__ = ["OldTensor", "read_old_tensors"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OldTensor:
    """A tensor's data in an older output, and what it was made from and how: digests, in hex."""

    extent: Extent
    encoding: str
    source: str

    @property
    def nbytes(self) -> int:
        """Bytes of its data, padding included where it isn't known."""
        return self.extent.nbytes


def read_old_tensors(path: Path, sizes: dict[str, int]) -> dict[str, OldTensor]:
    """By name. `sizes`: bytes that each tensor should have; others are left out.

    ModelError where the file isn't an output of quantrecipe that recorded its sources.
    """
    shards = read_gguf_shards(path)
    encodings, sources = shards[0].metadata.get(ENCODINGS), shards[0].metadata.get(SOURCE_HASHES)
    entries = [(shard, entry) for shard in shards for entry in shard.tensors]
    if encodings is None or sources is None or not len(encodings) == len(sources) == len(entries):
        raise ModelError(
            "doesn't say what its tensors were made from",
            "--reuse takes files that quantrecipe wrote, without --no-provenance",
            file=path,
        )
    found = {}
    rooms = {shard.path: shard.rooms() for shard in shards}
    for (shard, entry), encoding, source in zip(entries, encodings.decode(), sources.decode(), strict=True):
        size = sizes.get(entry.name)
        if size is None or size > rooms[shard.path][entry.name]:
            continue
        offset = shard.data_start + entry.offset
        extent = Extent(path=shard.path, offset=offset, nbytes=size, file_size=shard.file_size)
        found[entry.name] = OldTensor(extent=extent, encoding=str(encoding), source=str(source))
    return found
