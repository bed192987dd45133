"""Byte-level BPE: tokens, their types, and merges, from tokenizer.json.

    model.vocab      token → id               NORMAL
    added_tokens     matched before all else  CONTROL where special, else USER_DEFINED
    ids without a token, up to vocab_size     [PAD7], UNUSED

Tokens and merges are written in GPT-2's alphabet, which shows each byte as a printable character.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from pathlib import Path
from typing import Any, Never, cast

from quantrecipe.errors import ModelError
from quantrecipe.model.json_file import read_text

__all__ = ["added_tokens", "looks_special", "read_merges", "read_tokens", "refuse_others"]

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # llama.cpp: enum llama_token_type
_MAX_TOKENS = (
    1 << 26
)  # two hundred times the largest vocabulary in use: a list of that many still fits in memory
_CONTROL_IN_SPITE = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"}
"""Tokens that some models forget to call special; which ones follows llama.cpp's converter."""
_SPACE = chr(ord(" ") + 256)  # GPT-2's sign for a space
_AGAIN = "download it again"
_CONVERTER = "convert the model with llama.cpp's convert_hf_to_gguf.py --outtype bf16, and give the GGUF"


def refuse_others(path: Path, tokenizer: Mapping[str, Any]) -> None:
    """Raise a ModelError for everything but byte-level BPE."""
    model = tokenizer.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        kind = model.get("type") if isinstance(model, dict) else None
        _fail(path, f"holds a tokenizer of the kind {kind!r} (expected: BPE)", _CONVERTER)
    if model.get("type", "BPE") != "BPE":
        _fail(path, f"holds a tokenizer of the kind {model['type']!r} (expected: BPE)", _CONVERTER)
    if model.get("byte_fallback"):
        what = "is a SentencePiece vocabulary (BPE with byte_fallback) without the tokenizer.model that has its scores"
        _fail(path, what, f"put tokenizer.model beside it, or {_CONVERTER}")
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            _fail(
                path,
                f"marks parts of words ({name}: {model[name]!r}), which llama.cpp's BPE can't",
                _CONVERTER,
            )


def added_tokens(tokenizer: Mapping[str, Any], config: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """Added tokens by id; what tokenizer_config.json says of one comes before what tokenizer.json says."""
    found: dict[int, Mapping[str, Any]] = {}
    for token in tokenizer.get("added_tokens") or ():
        found[token["id"]] = token
    for number, token in (config.get("added_tokens_decoder") or {}).items():
        found[int(number)] = token
    return found


def read_tokens(
    path: Path, tokenizer: Mapping[str, Any], config: Mapping[str, Any], vocab_size: int | None
) -> tuple[list[str], list[int]]:
    """Return the tokens and their types in the order of the ids."""
    vocab: dict[str, int] = tokenizer["model"]["vocab"]
    try:
        added = added_tokens(tokenizer, config)
        names = {number: str(token["content"]) for number, token in added.items()}
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        _fail(path, f"its added_tokens are not understood: {error!r}", _AGAIN)
    numbers = [*vocab.values(), *names]
    if not set(map(type, numbers)) <= {int} or min(numbers, default=0) < 0:
        _fail(path, "has token ids that are no whole numbers", _AGAIN)
    highest = max(numbers, default=-1)
    size = vocab_size if vocab_size is not None else highest + 1
    if highest >= size or size > _MAX_TOKENS:
        what = f"has the token id {highest}, but config.json says vocab_size: {size}"
        _fail(path, what, "set vocab_size to the number of rows of the embedding")
    tokens: list[str | None] = [None] * size
    types = [_NORMAL] * size
    for name, number in vocab.items():
        tokens[number] = name
    for number, name in names.items():
        special = added[number].get("special") or looks_special(name)
        types[number] = _CONTROL if special else _USER_DEFINED
        # llama.cpp looks for user-defined tokens in plain text, where a space is a space
        tokens[number] = name if special else name.replace("▁", " ")
    for number, token in enumerate(tokens):
        if token is None:
            tokens[number] = f"[PAD{number}]"
            types[number] = _UNUSED
    return cast(list[str], tokens), types


def looks_special(token: str) -> bool:
    """True for tokens that a model ought to have marked as special."""
    return (
        token in _CONTROL_IN_SPITE
        or (token.startswith("<|") and token.endswith("|>"))
        or (token.startswith("<｜") and token.endswith("｜>"))
        or (token.startswith("<unused") and token.endswith(">"))
    )


def read_merges(path: Path, tokenizer: Mapping[str, Any]) -> list[str]:
    """Merges as "a b", from both of tokenizer.json's spellings, else from merges.txt."""
    merges: list[Any] = tokenizer["model"].get("merges") or _merges_txt(path.with_name("merges.txt"))
    if not merges:
        _fail(path, "has no merges", _CONVERTER)
    try:
        if set(map(type, merges)) == {str}:
            return merges
        if set(map(len, merges)) != {2}:
            raise ValueError
        joined = list(map(" ".join, merges))
        if sum(map(str.count, joined, repeat(" "))) > len(joined):
            joined = [" ".join(part.replace(" ", _SPACE) for part in merge) for merge in merges]
        return joined
    except (TypeError, ValueError):
        _fail(path, "has merges that are not pairs of texts", _AGAIN)


def _merges_txt(path: Path) -> list[str]:
    if not path.is_file():
        return []
    lines = read_text(path).split("\n")
    if lines[0].startswith("#"):  # "#version: 0.2"
        del lines[0]
    return [" ".join(parts) for line in lines if len(parts := line.split()) == 2]


def _fail(path: Path, what: str, remedy: str) -> Never:
    raise ModelError(what, remedy, file=path)
