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

__all__ = [
    "added_tokens",
    "content",
    "is_bytewise",
    "is_special",
    "looks_special",
    "named_specials",
    "special_texts",
]

_CONTROL_IN_SPITE = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"}
"""Tokens that some models forget to call special; which ones follows llama.cpp's converter."""
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_SHORT = {name.removesuffix("_token"): name for name in _NAMES}


def _named(**tokens: str) -> dict[str, str]:
    return {_SHORT[name]: token for name, token in tokens.items()}


_END = "<|endoftext|>"
_GPT2 = _named(bos=_END, eos=_END, unk=_END)
_LLAMA = _named(bos="<s>", eos="</s>", unk="<unk>")
_ROBERTA = _LLAMA | _named(sep="</s>", pad="<pad>", cls="<s>", mask="<mask>")
_OF_CLASS: Mapping[str, Mapping[str, str]] = {
    "BertTokenizer": _named(unk="[UNK]", sep="[SEP]", pad="[PAD]", cls="[CLS]", mask="[MASK]"),
    "CodeGenTokenizer": _GPT2,
    "CodeLlamaTokenizer": _LLAMA,
    "CohereTokenizer": _named(
        bos="<BOS_TOKEN>",
        eos="<|END_OF_TURN_TOKEN|>",
        unk="<UNK>",
        sep="<SEP>",
        pad="<PAD>",
        cls="<CLS>",
        mask="<MASK_TOKEN>",
    ),
    "GPT2Tokenizer": _GPT2,
    "GPTNeoXTokenizer": _GPT2 | _named(pad="<|padding|>"),
    "GemmaTokenizer": _named(bos="<bos>", eos="<eos>", unk="<unk>", pad="<pad>", mask="<mask>"),
    "LlamaTokenizer": _LLAMA,
    "Qwen2Tokenizer": _named(eos=_END, unk=_END, pad=_END),
    "RobertaTokenizer": _ROBERTA,
    "T5Tokenizer": _named(eos="</s>", unk="<unk>", pad="<pad>"),
    "WhisperTokenizer": _GPT2,
    "XLMRobertaTokenizer": _ROBERTA,
}
"""Special tokens of transformers' classes (which may end in "Fast") where tokenizer_config.json doesn't name them."""
_PIECES = (
    "LlamaTokenizer",
    "CodeLlamaTokenizer",
)  # transformers takes them for byte-level BPE as if no class were named


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
        if not set(map(type, found)) <= {int} or min(found, default=0) < 0:
            raise TypeError("an id is no whole number")
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
    usual = {} if of_class in _PIECES and is_bytewise(files) else _OF_CLASS.get(of_class, {})
    for name in _NAMES:
        if token := content(named.get(name, usual.get(name))):
            yield token


def special_texts(files: TokenizerFiles) -> set[str]:
    """The texts of all special tokens that tokenizer_config.json speaks of, those without a purpose, too."""
    found = set(named_specials(files))
    for key in ("additional_special_tokens", "extra_special_tokens"):
        listed = files.settings.get(key) or ()
        if isinstance(listed, (list, Mapping)):
            found |= set(map(content, listed.values() if isinstance(listed, Mapping) else listed))
    return found - {""}  # what is neither a text nor describes one


def is_bytewise(files: TokenizerFiles) -> bool:
    """True where ids become text by GPT-2's alphabet."""
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
