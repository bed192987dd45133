"""Reference files: what the unquantized model says about some texts, compactly, chunk by chunk.

    "quantrecipe reference 3\\n"
    header: one line of JSON       who was run, on what, and how
    tokens: i32 (chunks, n_ctx)    little-endian, as cut from the texts
    blocks: i32 (chunks,)          which chunks are of one document, and so are drawn together: see `resampling`
    counted: bits (chunks, scored) the positions that count, of the chunk's second half; rows are whole bytes
    for each 256 positions of a chunk that are scored, or what is left of them:
    u32 length, a record           of `compact`: those that count
    noise: u32 f64 f64             positions, mean and largest: see `Noise`; 0 positions where it wasn't measured

The first version had neither `blocks` nor `counted` nor `noise`: every chunk stood alone, and every position counted.
The first and the second had one record for each chunk, however long it was.

A file is written front to back and appears under its name when it is whole; it is read record by record, so neither
side holds more than that, whatever the context.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import numpy as np
from msgspec import Meta, structs

from quantrecipe.engine.language_model import scored_positions
from quantrecipe.errors import EvaluationError, OutputError
from quantrecipe.evaluate.compact import CompactRows, pack, unpack
from quantrecipe.plain_data import fields_of, plain
from quantrecipe.typed import Natural, NotNegative, Positive, Record, json_object, typed
from quantrecipe.whole_file import whole_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.evaluate.positions import Positions

__all__ = ["Noise", "Reference", "ScoredText", "is_reference", "read_reference", "write_reference"]

_MAGICS = (b"quantrecipe reference 1\n", b"quantrecipe reference 2\n", b"quantrecipe reference 3\n")
_VERSION = len(_MAGICS)
_MAGIC_SIZE = len(_MAGICS[0])
_LONGEST_HEADER = 1 << 20  # characters: a line for each of ten thousand texts
_SMALLEST_CONTEXT = 4  # with fewer tokens in a chunk none is scored
_LENGTH = struct.Struct("<I")
_RECORD = 256
"""Scored positions of a record, of which whole numbers are in what an engine gives at once. What is kept of them, where
a model is so unsure that it is nearly all of 150,000 tokens, takes 160 MB."""
_NOISE = struct.Struct("<Idd")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredText:
    """A text: its name, the digest of its bytes, and how many chunks of it were run."""

    name: str
    digest: str
    chunks: Positive


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """KL divergence of the reference from itself, run with other batches: what is below it says nothing of a file.

    positions: that were run twice
    mean:      in nats; largest: of one position
    """

    positions: int
    mean: float
    largest: float


class _Header(Record):
    """The header line. Its keys are fields of Reference."""

    model: str
    key: str
    n_ctx: Annotated[int, Meta(ge=_SMALLEST_CONTEXT, le=2**31)]
    n_vocab: Positive
    vocabulary: str
    tail: Natural | NotNegative  # written again as it is: `_offsets` counts its characters
    texts: Annotated[tuple[ScoredText, ...], Meta(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A reference file that has been opened.

    model:      name of the file that was run
    key:        digest of what decides the content: model, texts, n_ctx, tail
    n_ctx:      tokens in a chunk; the second half of each is scored
    n_vocab:    tokens in the vocabulary
    vocabulary: digest of the texts of those tokens that occur
    tail:       see `compact`
    texts:      one after the other, in chunks of their own
    tokens:     int32 (chunks, n_ctx)
    blocks:     int32 (chunks,): chunks of one document have the same number; None: each chunk stands alone
    counted:    bool (chunks, scored): positions that count, at least one of each chunk; None: all do
    noise:      None where it wasn't measured
    version:    of the file
    """

    path: Path
    model: str
    key: str
    n_ctx: int
    n_vocab: int
    vocabulary: str
    tail: float
    texts: tuple[ScoredText, ...]
    tokens: NDArray[np.int32] = field(repr=False, compare=False)
    blocks: NDArray[np.int32] | None = field(default=None, repr=False, compare=False)
    counted: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)
    noise: Noise | None = None
    version: int = field(default=_VERSION, compare=False)

    @property
    def chunks(self) -> int:
        """How many chunks all texts have together."""
        return sum(text.chunks for text in self.texts)

    @property
    def scored(self) -> int:
        """How many positions of a chunk are scored, if all of them count."""
        return scored_positions(self.n_ctx)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """bool (chunks, scored): the positions that count."""
        return np.ones((self.chunks, self.scored), np.bool_) if self.counted is None else self.counted

    @property
    def positions(self) -> int:
        """How many positions count."""
        return int(self.mask.sum())

    @property
    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each position that counts, in order: the number of its chunk, and how many tokens stand before its token.

        int64 (positions,) each.
        """
        chunks, scored = np.nonzero(self.mask)
        return chunks, scored + (self.n_ctx - self.scored)

    @property
    def targets(self) -> NDArray[np.int32]:
        """int32 (chunks, scored): the next token at each scored position, whether it counts or not."""
        return self.tokens[:, self.n_ctx - self.scored :]

    @cached_property
    def parts(self) -> tuple[slice, ...]:
        """The scored positions of a chunk, record after record."""
        step = self.scored if self.version < 3 else _RECORD
        return tuple(slice(start, min(start + step, self.scored)) for start in range(0, self.scored, step))

    def records(self, every: int = 1, first: int = 0) -> Iterator[CompactRows]:
        """Read the records: the positions that count. every: 1 for all chunks, n for each n-th from `first` on"""
        counts = [int(counted[part].sum()) for counted in self.mask for part in self.parts]
        with self.path.open("rb") as file:
            for number, offset in enumerate(self._offsets):
                chunk = number // len(self.parts)
                if chunk < first or (chunk - first) % every:
                    continue
                file.seek(offset)
                data = file.read(_LENGTH.unpack(file.read(_LENGTH.size))[0])
                try:
                    yield unpack(data, counts[number], self.n_vocab)
                except EvaluationError as error:
                    what = f"chunk {chunk + 1}: {error}"
                    raise EvaluationError(what, "make the reference again", file=self.path) from error

    def split(self, positions: Positions) -> dict[str, Positions]:
        """Divide positions among the texts, by their names."""
        ends = np.cumsum([0, *self.mask.sum(axis=1).tolist()]).tolist()
        parts, chunk = {}, 0
        for text in self.texts:
            parts[text.name] = positions[ends[chunk] : ends[chunk + text.chunks]]
            chunk += text.chunks
        return parts

    def to_json(self) -> dict[str, Any]:
        """What there is to say of it: everything but where the file is, and its tokens."""
        names = ("model", "key", "n_ctx", "n_vocab", "vocabulary", "tail", "texts", "positions", "noise")
        return fields_of(self, *names)

    @cached_property
    def _offsets(self) -> list[int]:
        """Where each record's length stands; the file is as long as they say."""
        offset, offsets = _MAGIC_SIZE + len(_header_line(self)) + self.tokens.size * 4, []
        if self.version > 1:
            offset += self.chunks * (4 + -(-self.scored // 8))
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            for _ in range(self.chunks * len(self.parts)):
                file.seek(offset)
                raw = file.read(_LENGTH.size)
                offsets.append(offset)
                offset += _LENGTH.size + (_LENGTH.unpack(raw)[0] if len(raw) == _LENGTH.size else size)
        offset += _NOISE.size if self.version > 1 else 0
        if offset != size:
            raise EvaluationError(
                f"the reference has {size:,} bytes and says that it has {offset:,}",
                "make it again",
                file=self.path,
            )
        return offsets


def is_reference(path: Path) -> bool:
    """True for a file that begins as references do."""
    with path.open("rb") as file:
        return file.read(_MAGIC_SIZE) in _MAGICS


def read_reference(path: str | Path) -> Reference:
    """The header and the tokens of a reference file, checked. EvaluationError where it isn't a whole one."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            magic = file.read(_MAGIC_SIZE)
            if magic not in _MAGICS:
                newer = magic.startswith(_MAGICS[0][:-2])
                raise EvaluationError(
                    "is a reference of a newer quantrecipe" if newer else "isn't a reference",
                    "`quantrecipe eval --save-reference` makes one",
                    file=path,
                )
            reference = _read(path, file, _MAGICS.index(magic) + 1)
    except OSError as error:
        raise EvaluationError(
            f"the reference can't be read ({error.strerror or error})", file=path
        ) from error
    _ = reference._offsets  # a file that was cut short is found here, not hours later
    return reference


def _read(path: Path, file: BinaryIO, version: int) -> Reference:
    line = file.readline(_LONGEST_HEADER)
    try:
        header = typed(json_object(line), _Header)
        n_ctx, chunks = header.n_ctx, sum(text.chunks for text in header.texts)
        if n_ctx * chunks * 4 > path.stat().st_size:
            raise ValueError("cut short")
        tokens = np.frombuffer(file.read(n_ctx * chunks * 4), "<i4").reshape(chunks, n_ctx)
        if tokens.min() < 0 or tokens.max() >= header.n_vocab:
            raise ValueError("tokens that aren't in the vocabulary")
        more = _read_newer(file, chunks, scored_positions(n_ctx)) if version > 1 else {}
    except ValueError as error:
        raise EvaluationError(f"the reference is damaged ({error})", "make it again", file=path) from error
    return Reference(
        path=path, tokens=tokens.astype(np.int32), version=version, **structs.asdict(header), **more
    )


def _read_newer(file: BinaryIO, chunks: int, scored: int) -> dict[str, Any]:
    """What the first version of the file didn't have. ValueError where it isn't whole."""
    blocks = np.frombuffer(file.read(4 * chunks), "<i4")
    packed = np.frombuffer(file.read(chunks * -(-scored // 8)), np.uint8).reshape(chunks, -1)
    if len(blocks) != chunks:
        raise ValueError("cut short")
    counted = np.unpackbits(packed, axis=1, count=scored).astype(bool)
    if not counted.any(axis=1).all():
        raise ValueError("chunks in which nothing counts")
    file.seek(-_NOISE.size, os.SEEK_END)
    positions, mean, largest = _NOISE.unpack(file.read(_NOISE.size))
    if not 0 <= mean <= largest < math.inf:
        raise ValueError("noise that is no divergence")
    noise = Noise(positions=positions, mean=mean, largest=largest) if positions else None
    return {"blocks": blocks.astype(np.int32), "counted": counted, "noise": noise}


def write_reference(
    reference: Reference, records: Iterable[CompactRows], noise: Callable[[], Noise | None] = lambda: None
) -> None:
    """Write the file, a record for each of the `parts` of each chunk. OutputError where the disk refuses.

    noise: asked after the last record
    """
    blocks = np.arange(reference.chunks) if reference.blocks is None else reference.blocks
    try:
        with whole_file(reference.path) as file:
            file.write(_MAGICS[-1] + _header_line(reference))
            file.write(reference.tokens.astype("<i4").tobytes())
            file.write(blocks.astype("<i4").tobytes())
            file.write(np.packbits(reference.mask, axis=1).tobytes())
            for rows in records:
                data = pack(rows)
                file.write(_LENGTH.pack(len(data)) + data)
            found = noise() or Noise(positions=0, mean=0.0, largest=0.0)
            file.write(_NOISE.pack(found.positions, found.mean, found.largest))
    except OSError as error:
        what = f"the reference can't be written ({error.strerror or error})"
        raise OutputError(what, file=reference.path) from error


def _header_line(reference: Reference) -> bytes:
    header = plain(fields_of(reference, *_Header.__struct_fields__))
    return json.dumps(header, separators=(",", ":")).encode() + b"\n"
