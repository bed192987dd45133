"""Tensors of an older output that a new one may copy instead of quantizing them again.

An output records, for each tensor, a digest of what made its bytes (type, options, importance, version of the
encoder) and the hashes of its source and of its data. Where the first two are the same again, so is the data;
the third says whether it still is what was written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quantrecipe.errors import ModelError
from quantrecipe.gguf.values import ValueType
from quantrecipe.model.gguf_file import read_gguf_shards
from quantrecipe.model.source.source import Extent
from quantrecipe.plan.metadata import DATA_HASHES, ENCODINGS, REMARKED, SOURCE_HASHES

__all__ = ["OldTensor", "read_old_tensors"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OldTensor:
    """A tensor's data in an older output.

    encoding, source, data: digests, in hex, of how and from what it was made, and of the data itself
    remarked: how many of its matrices the encoder made remarks on
    """

    extent: Extent
    encoding: str
    source: str
    data: str
    remarked: int = 0


def read_old_tensors(path: Path, sizes: dict[str, int]) -> dict[str, OldTensor]:
    """By name. `sizes`: bytes that each tensor should have; others are left out.

    ModelError where the file isn't an output of quantrecipe that recorded its sources.
    """
    shards = read_gguf_shards(path)
    entries = [(shard, entry) for shard in shards for entry in shard.tensors]
    records = [shards[0].metadata.get(key) for key in (ENCODINGS, SOURCE_HASHES, DATA_HASHES)]
    lengths = {len(record) for record in records if record is not None}
    if None not in records and len(lengths) == 1 and lengths != {len(entries)}:
        raise ModelError(
            f"records what {lengths.pop()} tensors were made from, and has {len(entries)}: another program has changed "
            "it since",
            "--reuse takes files as quantrecipe wrote them; leave it out",
            file=path,
        )
    if any(record is None or len(record) != len(entries) for record in records):
        raise ModelError(
            "doesn't say what its tensors were made from",
            "--reuse takes files that quantrecipe wrote, without --no-provenance",
            file=path,
        )
    found = {}
    rooms = {shard.path: shard.rooms() for shard in shards}
    remarks = shards[0].metadata.get(REMARKED)
    counts = [0] * len(entries)
    if remarks is not None and remarks.item_type is ValueType.UINT32 and len(remarks) == len(entries):
        counts = list(map(int, remarks.decode()))
    columns = [map(str, record.decode()) for record in records if record is not None]
    for (shard, entry), count, encoding, source, data in zip(entries, counts, *columns, strict=True):
        size = sizes.get(entry.name)
        # A header of a damaged file may place a tensor where there are no such bytes.
        if size is None or size > rooms[shard.path][entry.name]:
            continue
        offset = shard.data_start + entry.offset
        extent = Extent(path=shard.path, offset=offset, nbytes=size, file_size=shard.file_size)
        found[entry.name] = OldTensor(
            extent=extent, encoding=encoding, source=source, data=data, remarked=count
        )
    return found
