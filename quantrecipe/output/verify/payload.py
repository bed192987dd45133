"""Is the data what was written? Every byte after the header is a tensor's, or padding that is zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from quantrecipe.gguf.header import GGUFHeader
from quantrecipe.gguf.write_header import padded
from quantrecipe.model.source.source import Extent
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.progress import Progress
from quantrecipe.output.verify.hashing import hash_tensors, nonzero
from quantrecipe.output.verify.produced import Produced
from quantrecipe.output.verify.verification import Finding

__all__ = ["damaged_tensors", "gap_findings"]


def damaged_tensors(
    produced: Produced, reader: TensorReader, *, threads: int, progress: Progress
) -> dict[str, str]:
    """The tensors whose data isn't what was written, with the digest that it has now."""
    found = hash_tensors(
        produced.model.tensors, produced.model.sources, reader, threads=threads, progress=progress
    )
    names = (tensor.name for tensor in produced.model.tensors)
    return {name: found[name] for name in names if found[name] != produced.data.get(name)}


def gap_findings(produced: Produced, reader: TensorReader) -> Iterator[Finding]:
    """Bytes that belong to no tensor and aren't the zeros up to the alignment."""
    for shard in produced.shards:
        sizes = {entry.name: produced.extent(entry.name).nbytes for entry in shard.tensors}
        for begin, end, after in _gaps(shard, sizes):
            extent = Extent(path=shard.path, offset=begin, nbytes=end - begin, file_size=shard.file_size)
            if end - begin >= shard.alignment:
                what = f"{end - begin:,} bytes after {after} that belong to no tensor"
                yield Finding(what=what, file=shard.path, offset=begin)
            elif (place := nonzero(extent, reader)) is not None:
                what = f"the padding after {after} isn't zero; no tensor's data is affected"
                yield Finding(what=what, file=shard.path, offset=place)
        last = max((entry.offset + sizes[entry.name] for entry in shard.tensors), default=0)
        expected = shard.data_start + padded(last, shard.alignment)
        if shard.file_size < expected:
            what = f"ends at byte {shard.file_size:,}, within its last padding (expected: {expected:,} bytes)"
            yield Finding(what=what, file=shard.path, offset=shard.file_size)


def _gaps(shard: GGUFHeader, sizes: Mapping[str, int]) -> Iterator[tuple[int, int, str]]:
    """Stretches that belong to no tensor: where each begins and ends, and what stands before it."""
    end, after = shard.data_start, "the header"
    filled = [entry for entry in shard.tensors if sizes[entry.name]]
    for entry in sorted(filled, key=lambda entry: entry.offset):
        begin = shard.data_start + entry.offset
        if begin > end:
            yield end, begin, after
        end, after = begin + sizes[entry.name], entry.name
    if shard.file_size > end:
        yield end, shard.file_size, after
