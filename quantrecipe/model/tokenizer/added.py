"""Added tokens: which there are, and which of them are special; and the special tokens that classes bring along.

tokenizer.json             added_tokens: [{id, content, special, normalized, …}]
tokenizer_config.json      added_tokens_decoder: {id: {content, special, …}}, which has the last word
                           bos_token, eos_token, …: names; a class has its own where this file is silent
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.model.tokenizer.kinds import TokenizerFiles

__all__ = ["added_tokens", "content", "is_special", "looks_special", "named_specials"]

_CONTROL_IN_SPITE = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"}
"""Tokens that some models forget to call special; which ones follows llama.cpp's converter."""
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_GPT2, _LLAMA = "<|endoftext|>", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_ROBERTA = {**_LLAMA, "sep_token": "</s>", "pad_token": "<pad>", "cls_token": "<s>", "mask_token": "<mask>"}
_PIECES = (
    "LlamaTokenizer",
    "CodeLlamaTokenizer",
)  # transformers takes them for byte-level BPE as if no class were named
_OF_CLASS: dict[str, dict[str, str]] = {
    "GPT2Tokenizer": dict.fromkeys(("bos_token", "eos_token", "unk_token"), _GPT2),
    "GPTNeoXTokenizer": dict.fromkeys(("bos_token", "eos_token", "unk_token"), _GPT2),
    "Qwen2Tokenizer": dict.fromkeys(("eos_token", "unk_token", "pad_token"), _GPT2),
    "LlamaTokenizer": _LLAMA,
    "CodeLlamaTokenizer": _LLAMA,
    "T5Tokenizer": {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    "BertTokenizer": {
        "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
    },
    "RobertaTokenizer": _ROBERTA,
    "XLMRobertaTokenizer": _ROBERTA,
}  # fmt: skip
"""Special tokens of transformers' classes (which may end in "Fast") where tokenizer_config.json doesn't name them."""


def added_tokens(files: TokenizerFiles) -> dict[int, Mapping[str, Any]]:
    """Added tokens by id. ModelError where they are nonsense."""
    found: dict[int, Mapping[str, Any]] = {}
    try:
        for token in files.tokenizer.get("added_tokens") or ():
            found[token["id"]] = token
        for number, token in (files.settings.get("added_tokens_decoder") or {}).items():
            found[int(number)] = token
        if not all(isinstance(token["content"], str) for token in found.values()):
            raise TypeError("a token is no text")
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        what = f"its added_tokens are not understood: {error!r}"
        raise ModelError(what, "download it again", file=files.path) from error
    return found


def named_specials(files: TokenizerFiles) -> Iterator[str]:
    """The texts of the special tokens that tokenizer_config.json names, and those that its class has by itself."""
    named = files.config
    if named is None:
        return
    of_class = str(named.get("tokenizer_class")).removesuffix("Fast")
    usual = {} if of_class in _PIECES and _is_bytewise(files) else _OF_CLASS.get(of_class, {})
    for name in _NAMES:
        if token := content(named.get(name, usual.get(name))):
            yield token


def _is_bytewise(files: TokenizerFiles) -> bool:
    return files.part("decoder").get("type") == "ByteLevel"


def content(token: Any) -> str:
    """The text of a token that is named, or described as an object; "" where it is neither."""
    said = token.get("content") if isinstance(token, Mapping) else token
    return said if isinstance(said, str) else ""


def is_special(token: Mapping[str, Any]) -> bool:
    """True for tokens that are control tokens: special ones, and those that ought to be."""
    return bool(token.get("special")) or looks_special(str(token["content"]))


def looks_special(token: str) -> bool:
    """True for tokens that a model ought to have marked as special."""
    return (
        token in _CONTROL_IN_SPITE
        or (token.startswith("<|") and token.endswith("|>"))
        or (token.startswith("<｜") and token.endswith("｜>"))
        or (token.startswith("<unused") and token.endswith(">"))
    )
