"""SentencePiece's BPE in a tokenizer.json, without scores: byte_fallback, "▁" for spaces, no pre-tokenizer.

llama-hf  what a Llama folder without tokenizer.model becomes: every score -1000
gemma4    the same with its merges, by which llama.cpp then goes

Ids have no gaps: added tokens follow the model's own ones, in order. Added tokens that lie within the model's own keep
the type NORMAL, unless they are among the special tokens that tokenizer_config.json names.
"""

from __future__ import annotations

import re

from quantrecipe.errors import ModelError
from quantrecipe.model.pairs import Pairs, boolean, f32s, i32s, text, texts
from quantrecipe.model.tokenizer.added import added_tokens, special_texts
from quantrecipe.model.tokenizer.bpe import read_merges, vocab
from quantrecipe.model.tokenizer.completed import completed
from quantrecipe.model.tokenizer.kinds import TokenizerFiles

__all__ = ["is_llama_hf", "read_gemma4", "read_llama_hf"]

_NORMAL, _CONTROL, _USER_DEFINED, _BYTE = 1, 3, 4, 6  # llama.cpp: enum llama_token_type
_BYTE_TOKEN = re.compile("<0x[0-9A-Fa-f]{2}>")
_SCORE = -1000.0
_SEEN = {
    "<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>',
}  # fmt: skip
"""Special tokens of Gemma 4 that are part of what it says, and have to be seen."""


def is_llama_hf(files: TokenizerFiles) -> bool:
    """True where tokenizer.json holds BPE with byte_fallback."""
    model = files.part("model")
    return model.get("type") == "BPE" and bool(model.get("byte_fallback"))


def read_llama_hf(files: TokenizerFiles) -> Pairs:
    """Read the keys of a vocabulary whose scores nobody knows."""
    tokens, types = _tokens(files)
    pairs = {
        "tokenizer.ggml.model": text(files.vocabulary.model or "llama"),
        "tokenizer.ggml.pre": text(files.pre or "default"),
        "tokenizer.ggml.tokens": texts(tokens),
        "tokenizer.ggml.scores": f32s([_SCORE] * len(tokens)),
        "tokenizer.ggml.token_type": i32s(types),
    }
    return completed(files, pairs, limit=len(tokens))


def read_gemma4(files: TokenizerFiles) -> Pairs:
    """Read the keys of Gemma 4's vocabulary: no tokenizer.ggml.pre, BOS always, no space before the text."""
    tokens, types = _tokens(files)
    types = [_USER_DEFINED if token in _SEEN else kind for token, kind in zip(tokens, types, strict=True)]
    pairs = {
        "tokenizer.ggml.model": text(files.vocabulary.model or "gemma4"),
        "tokenizer.ggml.tokens": texts(tokens),
        "tokenizer.ggml.scores": f32s([_SCORE] * len(tokens)),
        "tokenizer.ggml.token_type": i32s(types),
        "tokenizer.ggml.merges": texts(read_merges(files)),
    }
    pairs = completed(files, pairs)
    pairs["tokenizer.ggml.add_space_prefix"] = boolean(False)
    pairs["tokenizer.ggml.add_bos_token"] = boolean(True)
    return pairs


def _tokens(files: TokenizerFiles) -> tuple[list[str], list[int]]:
    """Tokens and types by id. ModelError where ids have gaps, or aren't as many as the embedding's rows."""
    own = vocab(files)
    names = {number: token for token, number in own.items()}
    names |= {number: token["content"] for number, token in added_tokens(files).items() if number >= len(own)}
    missing = next((number for number in range(len(names)) if number not in names), None)
    if missing is not None:
        what = f"has no token of the id {missing}, though it has {len(names)} tokens"
        raise ModelError(what, "download it again", file=files.path)
    if files.size is not None and files.size != len(names):
        what = f"has {len(names)} tokens, but the embedding has {files.size} rows"
        remedy = "add what is missing to added_tokens, or put the tokenizer.model beside it"
        raise ModelError(what, remedy, file=files.path)
    special = special_texts(files)
    tokens = [names[number] for number in range(len(names))]
    types = [_type(token, token in special, number < len(own)) for number, token in enumerate(tokens)]
    return tokens, types


def _type(token: str, special: bool, own: bool) -> int:
    if own and _BYTE_TOKEN.fullmatch(token):
        return _BYTE
    if special:
        return _CONTROL
    return _NORMAL if own else _USER_DEFINED
