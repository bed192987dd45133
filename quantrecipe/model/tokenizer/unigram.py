"""Unigram, which llama.cpp calls t5: the likeliest pieces by their scores; T5, XLM-RoBERTa and BGE-M3 have it.

    T5           tokenizer.model or spiece.model, with added_tokens.json
    XLM-RoBERTa  sentencepiece.bpe.model, whose ids are those of fairseq: <s> <pad> </s> <unk>, then the pieces
                 from the fourth on; or tokenizer.json, which has the ids as they are

The character map by which text is normalized goes into the GGUF; llama.cpp applies it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any, Never

from quantrecipe.errors import ModelError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.pairs import Pairs, boolean, text
from quantrecipe.model.tokenizer.added import added_tokens, content, special_texts
from quantrecipe.model.tokenizer.completed import completed
from quantrecipe.model.tokenizer.kinds import TokenizerFiles
from quantrecipe.model.tokenizer.piece_file import BPE, PieceFile, read_piece_file
from quantrecipe.model.tokenizer.sentencepiece import (
    Pieces,
    padded,
    piece_pairs,
    put_added_json,
    read_sentencepiece,
)

__all__ = ["is_unigram", "read_unigram"]

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 1, 2, 3, 4, 5  # llama.cpp: enum llama_token_type
_PAD_SCORE = -10000.0
_FAIRSEQ = "sentencepiece.bpe.model"
_FIRST = (("<s>", _CONTROL), ("<pad>", _CONTROL), ("</s>", _CONTROL), ("<unk>", _UNKNOWN))
_OWN_FILES = ("tokenizer.model", "spiece.model")
_AGAIN = "download it again"


def is_unigram(files: TokenizerFiles) -> bool:
    """True where there is a file of SentencePiece by any of the names, or a Unigram tokenizer.json."""
    named = any(map(files.has, (*_OWN_FILES, _FAIRSEQ)))
    return named or files.part("model").get("type") == "Unigram"


def read_unigram(files: TokenizerFiles) -> Pairs:
    """Read the keys, of a BPE tokenizer.model those of SentencePiece. ModelError where the files are damaged."""
    if files.has(_FAIRSEQ):
        file = read_piece_file(files.folder / _FAIRSEQ)
        return _pairs(files, _as_fairseq(files, file), file.charsmap, file.dummy_prefix, file.fewer_spaces)
    for name in _OWN_FILES:
        if files.has(name):
            file = read_piece_file(files.folder / name)
            if file.model_type == BPE:
                return _of_bpe(files, name)
            made = padded(file, files.size)
            put_added_json(files, made)
            return _pairs(files, made, file.charsmap, file.dummy_prefix, file.fewer_spaces)
    prefix = files.settings.get("add_prefix_space", True)
    tidied = files.settings.get(
        "clean_up_tokenization_spaces", False
    )  # transformers takes false where nothing is said
    return _pairs(files, _from_json(files), _charsmap(files), bool(prefix), bool(tidied))


def _of_bpe(files: TokenizerFiles, name: str) -> Pairs:
    if name == "tokenizer.model":
        return read_sentencepiece(files)
    what = "is a BPE vocabulary (expected: Unigram)"
    remedy = "if this is the model's vocabulary, call the file tokenizer.model"
    raise ModelError(what, remedy, file=files.folder / name)


def _pairs(files: TokenizerFiles, made: Pieces, charsmap: bytes, prefix: bool, tidied: bool) -> Pairs:
    pairs: Pairs = {
        "tokenizer.ggml.model": text(files.vocabulary.model or "t5"),
        "tokenizer.ggml.pre": text(files.pre or "default"),
    }
    pairs |= piece_pairs(made)
    pairs["tokenizer.ggml.add_space_prefix"] = boolean(prefix)
    pairs["tokenizer.ggml.remove_extra_whitespaces"] = boolean(tidied)
    if charsmap:
        pairs["tokenizer.ggml.precompiled_charsmap"] = GGUFValue.array(ValueType.UINT8, charsmap)
    return completed(files, pairs, limit=len(made.tokens))


def _as_fairseq(files: TokenizerFiles, file: PieceFile) -> Pieces:
    made = padded(file, files.size if files.size is not None else len(file.pieces))
    return Pieces(
        tokens=[*(token for token, _ in _FIRST), *made.tokens[3:-1]],
        scores=[*[0.0] * len(_FIRST), *made.scores[3:-1]],
        types=[*(kind for _, kind in _FIRST), *made.types[3:-1]],
    )


def _from_json(files: TokenizerFiles) -> Pieces:
    pieces = list(_json_pieces(files))
    size = len(pieces) if files.size is None else files.size
    if len(pieces) > size:
        what = f"has {len(pieces)} tokens, but the embedding has {size} rows"
        raise ModelError(what, "set vocab_size to the number of rows of the embedding", file=files.path)
    made = Pieces(
        tokens=[f"[PAD{number}]" for number in range(size)],
        scores=[_PAD_SCORE] * size,
        types=[_UNUSED] * size,
    )
    added = {number: token["content"] for number, token in added_tokens(files).items()}
    ids = {token: number for number, token in added.items()}
    unknown = ids.get(content(files.settings.get("unk_token")), files.part("model").get("unk_id", 3))
    special = special_texts(files)
    for number, (token, score) in enumerate(pieces):
        kind = _USER_DEFINED if number in added else _NORMAL
        kind = _CONTROL if token in special else kind
        made.put(number, token, score, _UNKNOWN if number == unknown else kind)
    return made


def _json_pieces(files: TokenizerFiles) -> Iterator[tuple[str, float]]:
    vocab = files.part("model").get("vocab")
    try:
        for token, score in vocab if isinstance(vocab, list) else _fail(files, "has no vocabulary"):
            if not isinstance(token, str):
                raise TypeError(f"{token!r} is no text")
            yield token, float(score)
    except (TypeError, ValueError, OverflowError) as error:
        _fail(files, f"has a vocabulary that is no list of tokens with scores: {error}")


def _charsmap(files: TokenizerFiles) -> bytes:
    """The map of the normalizer, which may be a step of a sequence."""
    for step in _steps(files.part("normalizer")):
        if "precompiled_charsmap" in step:
            try:
                return base64.b64decode(step["precompiled_charsmap"] or "", validate=True)
            except (binascii.Error, TypeError, ValueError):
                _fail(files, "has a precompiled_charsmap that is no base64")
    return b""


def _steps(normalizer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield normalizer
    steps = normalizer.get("normalizers")
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, Mapping):
            yield from _steps(step)


def _fail(files: TokenizerFiles, what: str) -> Never:
    raise ModelError(what, _AGAIN, file=files.path)
