"""SentencePiece: tokens, scores and types from tokenizer.model, as Llama 2 and the first Mistral have it.

The file is a protocol buffer, of which only what a GGUF holds is read:

    ModelProto       1: pieces, each { 1: text, 2: score (float32), 3: type }   2: TrainerSpec   3: NormalizerSpec
    TrainerSpec      3: model_type, 2 for BPE
    NormalizerSpec   1: name   2: precompiled character map   4: remove_extra_whitespaces, true unless it says false

Source: sentencepiece_model.proto; how types and scores are overlaid by added tokens follows llama.cpp's converter.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

from quantrecipe.errors import ModelError
from quantrecipe.model.json_file import read_json_object
from quantrecipe.model.tokenizer.bpe import looks_special

__all__ = ["Pieces", "is_sentencepiece", "read_pieces"]

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = (
    1,
    3,
    4,
    5,
)  # llama.cpp: enum llama_token_type; SentencePiece's are the same
_PAD_SCORE, _ADDED_SCORE = -10000.0, -1000.0
_MAX_BYTES = 100_000_000  # the largest vocabularies in use have 5 MB
_BPE = 2  # sentencepiece_model.proto: TrainerSpec.ModelType
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT = struct.Struct("<f")
_AGAIN = "download it again"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """A vocabulary in the order of its ids."""

    tokens: list[str]
    scores: list[float]
    types: list[int]


def is_sentencepiece(folder: Path, tokenizer: Mapping[str, Any]) -> bool:
    """True where tokenizer.model holds the vocabulary: it is there, and tokenizer.json is missing or made from it."""
    model = tokenizer.get("model")
    converted = not tokenizer or (isinstance(model, Mapping) and bool(model.get("byte_fallback")))
    return converted and (folder / "tokenizer.model").is_file()


def read_pieces(
    folder: Path, config: Mapping[str, Any], vocab_size: int | None, *, lenient: bool = False
) -> Pieces:
    """The vocabulary of tokenizer.model with the added tokens. `lenient` lets normalizers through."""
    path = folder / "tokenizer.model"
    pieces = list(_parse(path, lenient))
    size = len(pieces) if vocab_size is None else vocab_size
    made = Pieces(
        tokens=[f"[PAD{number}]" for number in range(size)],
        scores=[_PAD_SCORE] * size,
        types=[_UNUSED] * size,
    )
    for number, (token, score, kind) in enumerate(pieces[:size]):
        # the converter has no user-defined pieces; llama.cpp finds them by their score like any other
        _put(made, number, token, score, _NORMAL if kind == _USER_DEFINED else kind)
    for number, token, kind in _added(folder, config):
        if number < size:
            _put(made, number, token, _ADDED_SCORE, kind)
    return made


def _put(made: Pieces, number: int, token: str, score: float, kind: int) -> None:
    made.tokens[number], made.scores[number], made.types[number] = token, score, kind


def _added(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[int, str, int]]:
    """Id, text and type of added tokens: those of added_tokens.json, then those of tokenizer_config.json."""
    path = folder / "added_tokens.json"
    try:
        if path.is_file():
            for token, number in read_json_object(path).items():
                yield _id(number), token, _USER_DEFINED
        path = folder / "tokenizer_config.json"
        for key, entry in (config.get("added_tokens_decoder") or {}).items():
            token = str(entry["content"])
            if entry.get("special") or looks_special(token):
                yield _id(int(key)), token, _CONTROL
            else:
                yield _id(int(key)), token.replace("▁", " "), _USER_DEFINED
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        _fail(path, f"its added tokens are not understood: {error!r}")


def _id(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{json.dumps(number)} is no token id")
    return number


def _parse(path: Path, lenient: bool) -> Iterator[tuple[str, float, int]]:
    """Read the text, the score and the type of each piece."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            _fail(path, f"is larger than {_MAX_BYTES:,} bytes")
        raw = path.read_bytes()
    except OSError as error:
        raise ModelError(f"can't be read: {error.strerror or error}", file=path) from error
    try:
        for field, value in _fields(raw):
            if field == 1:
                piece = dict(_fields(value))
                (score,) = _FLOAT.unpack(piece.get(2, b"\0\0\0\0"))
                yield piece.get(1, b"").decode(), score, piece.get(3, _NORMAL)
            elif field == 2 and dict(_fields(value)).get(3, 1) != _BPE:
                remedy = "convert the model with llama.cpp's converter, and give the GGUF"
                raise ModelError("is no BPE vocabulary, as Llama's are", remedy, file=path)
            elif field == 3 and not lenient:
                _check_normalizer(path, dict(_fields(value)))
    except (ValueError, TypeError, AttributeError, struct.error, IndexError) as error:
        raise ModelError("is not a SentencePiece model, or damaged", _AGAIN, file=path) from error


def _check_normalizer(path: Path, normalizer: Mapping[int, Any]) -> None:
    """llama.cpp takes text as it is: only identity, with all its spaces, leads to the same ids."""
    if normalizer.get(2) or normalizer.get(4, 1):
        name = bytes(normalizer.get(1, b"")).decode() or "by removing spaces"
        what = f"normalizes text ({name}), which llama.cpp doesn't for this kind of vocabulary"
        raise ModelError(what, "if its ids are good enough all the same, say: --pre default", file=path)


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


def _fail(path: Path, what: str) -> Never:
    raise ModelError(what, _AGAIN, file=path)
