"""Digest: the hash of what a source stores, taken on the way from the pieces that are read anyway.

Of one leaf it is XXH3-128 of its bytes, which anybody can check who has the file. Of several, such as weights and their
scales, it is XXH3-128 of the digests of all, one after the other: each leaf is read in its own order, so that the hash
doesn't depend on the sizes of the pieces.

Most sources read every byte once, in order. What they read otherwise (a transposed matrix, rows that change places far
away) is read again when the hash is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import xxhash

from quantrecipe.model.source.reading import Piece
from quantrecipe.model.source.source import Constant, Leaf, TensorSource, leaves_of
from quantrecipe.model.tensor_reader import TensorReader

__all__ = ["CHUNK", "Digest", "combined", "hash_bytes"]

CHUNK = 1 << 20
"""Bytes that are read in one go."""


class Digest:
    """Sees the pieces of a source's rows in the order of the rows."""

    def __init__(self, source: TensorSource) -> None:
        self._streams: dict[Leaf, _Stream] = {}
        # Looked up by identity: to hash a leaf of hundreds of extents takes longer than to hash the bytes of a piece.
        self._by_id: dict[int, _Stream] = {}
        for leaf in leaves_of(source):
            stream = self._streams.setdefault(leaf, _Stream(leaf))
            self._by_id[id(leaf)] = stream

    def update(self, pieces: Iterable[Piece]) -> None:
        """Take note of what was read."""
        for piece in pieces:
            self._by_id[id(piece.leaf)].update(piece.offset, piece.data)

    def finish(self, reader: TensorReader, *, tensor: str = "") -> int:
        """Read what hasn't been seen in order; how many bytes that were."""
        return sum(stream.finish(reader, tensor) for stream in self._streams.values())

    def hexdigest(self) -> str:
        """The hash, once it is finished."""
        return combined([stream.hash for stream in self._streams.values()])


class _Stream:
    """The bytes of one leaf, from the first one on."""

    def __init__(self, leaf: Leaf) -> None:
        self.hash = xxhash.xxh3_128()
        self._leaf = leaf
        self._seen = 0

    def update(self, offset: int, data: np.ndarray) -> None:
        if offset <= self._seen < offset + data.size:
            self.hash.update(data[self._seen - offset :].data)
            self._seen = offset + data.size

    def finish(self, reader: TensorReader, tensor: str) -> int:
        before = self._seen
        self._seen = hash_bytes(self._leaf, self.hash, reader, begin=before, tensor=tensor)
        return 0 if isinstance(self._leaf, Constant) else self._seen - before


def hash_bytes(
    leaf: Leaf,
    digest: xxhash.xxh3_128,
    reader: TensorReader,
    *,
    begin: int = 0,
    tensor: str = "",
    chunk: int = CHUNK,
    go_on: Callable[[], bool] = lambda: True,
) -> int:
    """Feed a leaf's bytes to a hash, from `begin` on, as long as `go_on` says so; where that came to its end."""
    if isinstance(leaf, Constant):
        digest.update(leaf.data[begin:])
        return leaf.nbytes
    size = leaf.nbytes
    buffer = np.empty(min(chunk, size - begin), np.uint8)
    while begin < size and go_on():
        piece = buffer[: min(chunk, size - begin)]
        reader.read(leaf.extents, begin, piece, tensor=tensor)
        digest.update(piece.data)
        begin += piece.size
    return begin


def combined(hashes: Sequence[xxhash.xxh3_128]) -> str:
    """The hash of a source whose leaves have these."""
    if len(hashes) == 1:
        return hashes[0].hexdigest()
    return xxhash.xxh3_128_hexdigest(b"".join(it.digest() for it in hashes))
