"""Byte-level BPE: tokens, their types, and merges, from tokenizer.json.

    model.vocab      token → id               NORMAL
    added_tokens     matched before all else  CONTROL where special, else USER_DEFINED
    ids without a token, up to vocab_size     [PAD7], UNUSED

Tokens and merges are written in GPT-2's alphabet, which shows each byte as a printable character. WordPiece and BPE of
whole words share what is said here of ids and types.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from pathlib import Path
from typing import Any, Never, cast

from quantrecipe.errors import ModelError
from quantrecipe.model.json_file import read_text
from quantrecipe.model.pairs import Pairs, i32s, text, texts
from quantrecipe.model.tokenizer.added import added_tokens, is_bytewise, is_special, named_specials
from quantrecipe.model.tokenizer.alphabet import as_text
from quantrecipe.model.tokenizer.completed import completed
from quantrecipe.model.tokenizer.kinds import MOST_TOKENS, TokenizerFiles, require_ids
from quantrecipe.model.tokenizer.pre_tokenizer import recognise

__all__ = [
    "CONVERTER",
    "is_bpe",
    "is_of_words",
    "read_bpe",
    "read_merges",
    "read_of_words",
    "read_tokens",
    "vocab",
]

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # llama.cpp: enum llama_token_type
_OF_LINES = ("gemma4", "granite-embed-multi-311m", "sarvam-moe")
"""Names of rules that merge whole lines of characters, not words of bytes, as SentencePiece does."""
_SPACE = chr(ord(" ") + 256)  # GPT-2's sign for a space
_AGAIN = "download it again"
CONVERTER = "convert the model with llama.cpp's convert_hf_to_gguf.py --outtype bf16, and give the GGUF"
"""What to do about vocabularies that can't be read."""


def is_bpe(files: TokenizerFiles) -> bool:
    """True where there is a tokenizer.json; `read_bpe` says what is wrong where it holds something else."""
    return bool(files.tokenizer)


def read_bpe(files: TokenizerFiles) -> Pairs:
    """Read the keys of a byte-level BPE vocabulary, or of one that merges lines, if the architecture says so."""
    of_lines = [name for name in (files.pre, *files.vocabulary.pre) if name in _OF_LINES]
    _refuse_others(files, may_be_of_lines=bool(of_lines))
    if files.pre is not None:
        name = files.pre
    elif of_lines and files.part("model").get("byte_fallback"):
        name = of_lines[0]
    else:
        name = recognise(files.path, files.tokenizer, files.vocabulary.pre)
    return _of_model(files, files.vocabulary.model or "gpt2", name)


def is_of_words(files: TokenizerFiles) -> bool:
    """True for BPE whose pieces are all that stands between spaces."""
    return files.part("pre_tokenizer").get("type") == "Whitespace"


def read_of_words(files: TokenizerFiles) -> Pairs:
    """Read the keys of a BPE vocabulary of whole words in Unicode, not in bytes."""
    return _of_model(files, "whitespace", "whitespace")


def _of_model(files: TokenizerFiles, model: str, pre: str) -> Pairs:
    tokens, types = read_tokens(files)
    pairs = {
        "tokenizer.ggml.model": text(model),
        "tokenizer.ggml.pre": text(pre),
        "tokenizer.ggml.tokens": texts(tokens),
        "tokenizer.ggml.token_type": i32s(types),
        "tokenizer.ggml.merges": texts(read_merges(files)),
    }
    return completed(files, pairs)


def _refuse_others(files: TokenizerFiles, *, may_be_of_lines: bool) -> None:
    """Raise a ModelError for everything but byte-level BPE."""
    path, model = files.path, files.part("model")
    if not isinstance(model.get("vocab"), dict) or model.get("type", "BPE") != "BPE":
        _fail(path, f"holds a tokenizer of the kind {model.get('type')!r} (expected: BPE)", CONVERTER)
    if model.get("byte_fallback") and not may_be_of_lines:
        what = "is a SentencePiece vocabulary (BPE with byte_fallback) without the tokenizer.model that has its scores"
        _fail(path, what, f"put tokenizer.model beside it, or {CONVERTER}")
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            _fail(
                path,
                f"marks parts of words ({name}: {model[name]!r}), which llama.cpp's BPE can't",
                CONVERTER,
            )


def vocab(files: TokenizerFiles) -> dict[str, int]:
    """The model's own tokens, token → id. ModelError where ids are no numbers, or two tokens have the same."""
    found = files.part("model").get("vocab")
    if not isinstance(found, dict):
        kind = files.part("model").get("type")
        _fail(files.path, f"holds a tokenizer of the kind {kind!r} without a vocabulary by tokens", CONVERTER)
    numbers = found.values()
    if not set(map(type, numbers)) <= {int} or min(numbers, default=0) < 0:
        _fail(files.path, "has token ids that are no whole numbers", _AGAIN)
    if len(set(numbers)) != len(found):
        first: dict[int, str] = {}
        for token, number in found.items():
            if first.setdefault(number, token) != token:
                _fail(
                    files.path, f"gives the id {number} twice, to {first[number]!r} and to {token!r}", _AGAIN
                )
    return found


def read_tokens(files: TokenizerFiles) -> tuple[list[str], list[int]]:
    """Return the tokens and their types in the order of the ids."""
    path, own = files.path, vocab(files)
    added = added_tokens(files)
    names = {number: str(token["content"]) for number, token in added.items()}
    highest = max([*own.values(), *names], default=-1)
    require_ids(files, path, highest, len(own) + len(names))
    size = files.size if files.size is not None else highest + 1
    if highest >= size or size > MOST_TOKENS:
        what = f"has the token id {highest}, but config.json says vocab_size: {size}"
        _fail(path, what, "set vocab_size to the number of rows of the embedding")
    tokens: list[str | None] = [None] * size
    types = [_NORMAL] * size
    for token, number in own.items():
        tokens[number] = token
    bytewise = is_bytewise(files)
    for number, name in names.items():
        # the converter writes what comes back from such a token's id: the decoder takes GPT-2's alphabet for bytes
        token = as_text(name) if bytewise and not added[number].get("normalized", True) else name
        special = is_special({**added[number], "content": token})
        types[number] = _CONTROL if special else _USER_DEFINED
        # llama.cpp looks for user-defined tokens in plain text, where a space is a space
        tokens[number] = token if special else token.replace("▁", " ")
    _add_named(files, own, set(names.values()), highest, tokens, types)
    for number, found in enumerate(tokens):
        if found is None:
            tokens[number] = f"[PAD{number}]"
            types[number] = _UNUSED
    for name, kind in files.vocabulary.types:
        if name in tokens:
            types[tokens.index(name)] = kind
    return cast(list[str], tokens), types


def _add_named(
    files: TokenizerFiles,
    own: Mapping[str, int],
    added: set[str],
    highest: int,
    tokens: list[str | None],
    types: list[int],
) -> None:
    """Special tokens that are only named are added as transformers does it: behind the last, if there is a row left."""
    for name in named_specials(files):
        if name in added:
            continue
        added.add(name)
        number = own.get(name, highest + 1)
        if number >= len(tokens):
            continue
        highest = max(highest, number)
        tokens[number], types[number] = as_text(name) if is_bytewise(files) else name, _CONTROL


def read_merges(files: TokenizerFiles) -> list[str]:
    """Merges as "a b", from both of tokenizer.json's spellings, else from merges.txt."""
    path = files.path
    merges: list[Any] = files.part("model").get("merges") or _merges_txt(path.with_name("merges.txt"))
    if not merges:
        _fail(path, "has no merges", CONVERTER)
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
