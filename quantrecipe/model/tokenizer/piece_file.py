"""read_piece_file: what a SentencePiece model file says, read without trust.

The file is a protocol buffer, of which only what a GGUF holds is read:

    ModelProto       1: pieces, each { 1: text, 2: score (float32), 3: type }   2: TrainerSpec   3: NormalizerSpec
    TrainerSpec      3: model_type, 1 for Unigram, 2 for BPE
    NormalizerSpec   1: name   2: precompiled character map   3: add_dummy_prefix   4: remove_extra_whitespaces;
                     both are true unless it says false

Source: sentencepiece_model.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantrecipe.errors import ModelError

__all__ = ["BPE", "NORMAL", "UNIGRAM", "PieceFile", "read_piece_file"]

UNIGRAM, BPE = 1, 2
"""sentencepiece_model.proto: TrainerSpec.ModelType"""
NORMAL = 1
"""The type of a piece that states none; the numbers are those of llama.cpp."""
_MAX_BYTES = 100_000_000  # the largest vocabularies in use have 5 MB
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT = struct.Struct("<f")
_AGAIN = "download it again"


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceFile:
    """A SentencePiece model: pieces (text, score, type) in the order of their ids, and how text is normalized."""

    path: Path
    pieces: list[tuple[str, float, int]]
    model_type: int
    normalizer: str
    charsmap: bytes
    dummy_prefix: bool
    fewer_spaces: bool


def read_piece_file(path: Path) -> PieceFile:
    """Read the file. ModelError where it is something else, was cut short, or has pieces that aren't UTF-8."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError(f"is larger than {_MAX_BYTES:,} bytes", _AGAIN, file=path)
        raw = path.read_bytes()
    except OSError as error:
        raise ModelError(f"can't be read: {error.strerror or error}", file=path) from error
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    try:
        for field, value in _fields(raw):
            if field == 1:
                piece = dict(_fields(value))
                (score,) = _FLOAT.unpack(piece.get(2, b"\0\0\0\0"))
                pieces.append((_text(path, len(pieces), piece.get(1, b"")), score, int(piece.get(3, NORMAL))))
            elif field == 2:
                trainer = dict(_fields(value))
            elif field == 3:
                normalizer = dict(_fields(value))
        return PieceFile(
            path=path,
            pieces=pieces,
            model_type=int(trainer.get(3, UNIGRAM)),
            normalizer=bytes(normalizer.get(1, b"")).decode(),
            charsmap=bytes(normalizer.get(2, b"")),
            dummy_prefix=bool(normalizer.get(3, 1)),
            fewer_spaces=bool(normalizer.get(4, 1)),
        )
    except (ValueError, TypeError, AttributeError, struct.error, IndexError) as error:
        raise ModelError("is not a SentencePiece model, or damaged", _AGAIN, file=path) from error


def _text(path: Path, number: int, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        what = f"has a piece that is not UTF-8 (number {number}): {bytes(raw[:20])!r}"
        raise ModelError(what, _AGAIN, file=path) from error


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of a message's fields: int, or bytes. ValueError or IndexError where it ends early."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(raw, at)
            yield key >> 3, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if kind == _BYTES:
            size, at = _varint(raw, at)
        if size is None or at + size > len(raw):
            raise ValueError(f"field {key >> 3} is damaged")
        yield key >> 3, raw[at : at + size]
        at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")
