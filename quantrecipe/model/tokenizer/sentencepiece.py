"""SentencePiece: tokens, scores and types from tokenizer.model, as Llama 2, Gemma and the first Mistral have it.

    pieces of tokenizer.model              their types; user-defined ones become NORMAL
    added_tokens.json                      USER_DEFINED, score -1000
    added tokens of the other files        by Vocabulary.added
    ids without a token, up to the rows    [PAD7], UNUSED, score -10000

How these overlay each other follows llama.cpp's converter; ids beyond the rows are left out, as it does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

from quantrecipe.errors import ModelError
from quantrecipe.model.json_file import read_json_object
from quantrecipe.model.pairs import Pairs, boolean, f32s, i32s, text, texts
from quantrecipe.model.tokenizer.added import is_special
from quantrecipe.model.tokenizer.completed import completed
from quantrecipe.model.tokenizer.kinds import TokenizerFiles
from quantrecipe.model.tokenizer.piece_file import BPE, PieceFile, read_piece_file

__all__ = ["Pieces", "is_sentencepiece", "overlaid", "piece_pairs", "put_added_json", "read_sentencepiece"]

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = (
    1,
    2,
    3,
    4,
    5,
)  # llama.cpp: enum llama_token_type; SentencePiece's are the same
_PAD_SCORE, _ADDED_SCORE = -10000.0, -1000.0
_FILE = "tokenizer.model"
_NUL, _DRAGON = "\0", "🐉"  # the piece of InternLM2 that is a zero byte, and what the converter makes of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """A vocabulary in the order of its ids, which readers overlay with added tokens."""

    tokens: list[str]
    scores: list[float]
    types: list[int]

    def put(self, number: int, token: str, score: float, kind: int) -> None:
        """Set what this id stands for, if the embedding has a row for it."""
        if number < len(self.tokens):
            self.tokens[number], self.scores[number], self.types[number] = token, score, kind


def is_sentencepiece(files: TokenizerFiles) -> bool:
    """True where tokenizer.model holds the vocabulary: it is there, and tokenizer.json is missing or made from it."""
    model = files.part("model")
    converted = not files.tokenizer or bool(model.get("byte_fallback")) or model.get("type") == "Unigram"
    return converted and files.has(_FILE)


def read_sentencepiece(files: TokenizerFiles) -> Pairs:
    """Read the keys. ModelError where llama.cpp would cut text up otherwise (but see Vocabulary.lenient)."""
    file = read_piece_file(files.folder / _FILE)
    if files.pre is None and not files.vocabulary.lenient:
        _refuse_others(file)
    made = overlaid(files, file)
    pairs: Pairs = {
        "tokenizer.ggml.model": text(files.vocabulary.model or "llama"),
        "tokenizer.ggml.pre": text(files.pre or "default"),
    }
    pairs |= piece_pairs(made)
    if files.vocabulary.space_prefix == _FILE:
        pairs["tokenizer.ggml.add_space_prefix"] = boolean(file.dummy_prefix)
    return completed(files, pairs, limit=len(made.tokens))


def piece_pairs(made: Pieces) -> Pairs:
    """The keys of tokens, scores and types."""
    return {
        "tokenizer.ggml.tokens": texts(made.tokens),
        "tokenizer.ggml.scores": f32s(made.scores),
        "tokenizer.ggml.token_type": i32s(made.types),
    }


def overlaid(files: TokenizerFiles, file: PieceFile, size: int | None = None) -> Pieces:
    """Return the pieces with the added tokens, as many as the embedding has rows (or `size`)."""
    made = padded(file, files.size if size is None else size)
    added = files.vocabulary.added
    if added == "internlm2":
        _tidy_internlm2(made)
    if added != "scores":
        put_added_json(files, made)
    path = files.folder / "tokenizer_config.json"
    for number, token in _listed(path, files.settings.get("added_tokens_decoder")):
        if added == "usual":
            special = is_special(token)
            content = token["content"] if special else token["content"].replace("▁", " ")
            made.put(number, content, _ADDED_SCORE, _CONTROL if special else _USER_DEFINED)
        elif added == "scores":
            _put_scored(files, made, number, token)
        else:
            made.put(number, token["content"], _ADDED_SCORE, _by_flag(token))
    if added in ("flags", "internlm2"):
        for number, token in _listed(files.path, files.tokenizer.get("added_tokens")):
            made.put(number, token["content"], _ADDED_SCORE, _by_flag(token))
    return made


def padded(file: PieceFile, size: int | None) -> Pieces:
    """Return the pieces alone, with placeholders up to `size`."""
    size = len(file.pieces) if size is None else size
    made = Pieces(
        tokens=[f"[PAD{number}]" for number in range(size)],
        scores=[_PAD_SCORE] * size,
        types=[_UNUSED] * size,
    )
    for number, (token, score, kind) in enumerate(file.pieces[:size]):
        # the converter has no user-defined pieces; llama.cpp finds them by their score like any other
        made.put(number, token, score, _NORMAL if kind == _USER_DEFINED else kind)
    return made


def put_added_json(files: TokenizerFiles, made: Pieces) -> None:
    """Overlay the tokens of added_tokens.json."""
    path = files.folder / "added_tokens.json"
    if not path.is_file():
        return
    for token, number in read_json_object(path).items():
        if type(number) is not int or number < 0:
            _fail(path, f"its added tokens are not understood: {json.dumps(number)} is no token id")
        made.put(number, token, _ADDED_SCORE, _USER_DEFINED)


def _listed(path: Path, said: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Ids and tokens of an added_tokens_decoder, or of a list of added tokens."""
    try:
        entries = (
            said.items() if isinstance(said, Mapping) else [(token["id"], token) for token in said or ()]
        )
        for key, token in entries:
            if (number := int(key)) < 0 or not isinstance(token["content"], str):
                raise ValueError(f"{key}: {token}")
            yield number, token
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        _fail(path, f"its added tokens are not understood: {error!r}")


def _by_flag(token: Mapping[str, Any]) -> int:
    return _CONTROL if token.get("special") else _USER_DEFINED


def _put_scored(files: TokenizerFiles, made: Pieces, number: int, token: Mapping[str, Any]) -> None:
    if not token.get("special"):
        made.put(number, token["content"], _PAD_SCORE, _USER_DEFINED)
    else:
        unknown = token["content"] == files.settings.get("unk_token")
        made.put(number, token["content"], 0.0, _UNKNOWN if unknown else _CONTROL)


def _tidy_internlm2(made: Pieces) -> None:
    for number, token in enumerate(made.tokens):
        if token.startswith("[UNUSED"):
            made.types[number] = _UNUSED
        elif token == _NUL:
            made.tokens[number] = _DRAGON


def _refuse_others(file: PieceFile) -> None:
    """llama.cpp merges pieces by score and takes text as it is: only such a model leads to the same ids."""
    remedy = "if its ids are good enough all the same, say: --pre default"
    if file.model_type != BPE:
        what = "is no BPE vocabulary, and llama.cpp would merge its pieces as if it were"
        raise ModelError(what, remedy, file=file.path)
    if file.charsmap or file.fewer_spaces:
        name = file.normalizer if file.charsmap else "by removing spaces"
        what = f"normalizes text ({name}), which llama.cpp doesn't for this kind of vocabulary"
        raise ModelError(what, remedy, file=file.path)


def _fail(path: Path, what: str) -> Never:
    raise ModelError(what, "download it again", file=path)
