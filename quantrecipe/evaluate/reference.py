"""Reference files: what the unquantized model says about some texts, compactly, chunk by chunk.

    "quantrecipe reference 1\\n"
    header: one line of JSON       who was run, on what, and how
    tokens: i32 (chunks, n_ctx)    little-endian, as cut from the texts
    for each chunk: u32 length     a record of `compact`: the positions of the chunk's second half

A file is written front to back and appears under its name when it is whole; it is read record by record, so neither
side holds more than a chunk.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
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

__all__ = ["Reference", "ScoredText", "is_reference", "read_reference", "write_reference"]

_MAGIC = b"quantrecipe reference 1\n"
_LONGEST_HEADER = 1 << 20  # characters: a line for each of ten thousand texts
_SMALLEST_CONTEXT = 4  # with fewer tokens in a chunk none is scored
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredText:
    """A text: its name, the digest of its bytes, and how many chunks of it were run."""

    name: str
    digest: str
    chunks: Positive


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

    @property
    def chunks(self) -> int:
        """How many chunks all texts have together."""
        return sum(text.chunks for text in self.texts)

    @property
    def scored(self) -> int:
        """How many positions of a chunk are scored."""
        return scored_positions(self.n_ctx)

    @property
    def targets(self) -> NDArray[np.int32]:
        """int32 (chunks, scored): the next token at each scored position."""
        return self.tokens[:, self.n_ctx - self.scored :]

    def rows(self) -> Iterator[CompactRows]:
        """Read the records, chunk by chunk."""
        with self.path.open("rb") as file:
            for number, offset in enumerate(self._offsets):
                file.seek(offset)
                data = file.read(_LENGTH.unpack(file.read(_LENGTH.size))[0])
                try:
                    yield unpack(data, self.scored, self.n_vocab)
                except EvaluationError as error:
                    what = f"chunk {number + 1}: {error}"
                    raise EvaluationError(what, "make the reference again", file=self.path) from error

    def split(self, positions: Positions) -> dict[str, Positions]:
        """Divide positions among the texts, by their names."""
        parts, start = {}, 0
        for text in self.texts:
            end = start + text.chunks * self.scored
            parts[text.name] = positions[start:end]
            start = end
        return parts

    def to_json(self) -> dict[str, Any]:
        """What the header says: everything but where the file is, and its tokens."""
        return fields_of(self, "model", "key", "n_ctx", "n_vocab", "vocabulary", "tail", "texts")

    @cached_property
    def _offsets(self) -> list[int]:
        """Where each record's length stands; the file is as long as they say."""
        header = len(_MAGIC) + len(_header_line(self))
        offset, offsets = header + self.tokens.size * 4, []
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            for _ in range(self.chunks):
                file.seek(offset)
                raw = file.read(_LENGTH.size)
                offsets.append(offset)
                offset += _LENGTH.size + (_LENGTH.unpack(raw)[0] if len(raw) == _LENGTH.size else size)
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
        return file.read(len(_MAGIC)) == _MAGIC


def read_reference(path: str | Path) -> Reference:
    """The header and the tokens of a reference file, checked. EvaluationError where it isn't a whole one."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise EvaluationError(
                    "isn't a reference", "`quantrecipe eval --save-reference` makes one", file=path
                )
            reference = _read(path, file)
    except OSError as error:
        raise EvaluationError(
            f"the reference can't be read ({error.strerror or error})", file=path
        ) from error
    _ = reference._offsets  # a file that was cut short is found here, not hours later
    return reference


def _read(path: Path, file: BinaryIO) -> Reference:
    line = file.readline(_LONGEST_HEADER)
    try:
        header = typed(json_object(line), _Header)
        n_ctx, chunks = header.n_ctx, sum(text.chunks for text in header.texts)
        if n_ctx * chunks * 4 > path.stat().st_size:
            raise ValueError("cut short")
        tokens = np.frombuffer(file.read(n_ctx * chunks * 4), "<i4").reshape(chunks, n_ctx)
        if tokens.min() < 0 or tokens.max() >= header.n_vocab:
            raise ValueError("tokens that aren't in the vocabulary")
    except ValueError as error:
        raise EvaluationError(f"the reference is damaged ({error})", "make it again", file=path) from error
    return Reference(path=path, tokens=tokens.astype(np.int32), **structs.asdict(header))


def write_reference(reference: Reference, records: Iterable[CompactRows]) -> None:
    """Write the file, one record for each chunk. OutputError where the disk refuses."""
    try:
        with whole_file(reference.path) as file:
            file.write(_MAGIC + _header_line(reference))
            file.write(reference.tokens.astype("<i4").tobytes())
            for rows in records:
                data = pack(rows)
                file.write(_LENGTH.pack(len(data)) + data)
    except OSError as error:
        what = f"the reference can't be written ({error.strerror or error})"
        raise OutputError(what, file=reference.path) from error


def _header_line(reference: Reference) -> bytes:
    return json.dumps(plain(reference), separators=(",", ":")).encode() + b"\n"
