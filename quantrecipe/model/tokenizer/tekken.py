"""tekken.json, the tokenizer of Mistral's own format: special tokens first, then byte sequences by rank.

    config           pattern, default_vocab_size, default_num_special_tokens
    vocab            [{rank, token_bytes (base64), token_str}, …]; the first 256 are the bytes
    special_tokens   [{rank, token_str, is_control}, …]; ids without one are called <SPECIAL_20>

A token has every merge of two others that make it, and of these first the ones of low rank: unlike tiktoken's merges,
which are only those that the ranks lead to. Source: llama.cpp's converter, and Mistral's tokenizer.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Never

from quantrecipe.errors import ModelError
from quantrecipe.model.json_file import read_json_object, read_text
from quantrecipe.model.pairs import Pairs, boolean, f32s, i32s, text, texts, u32
from quantrecipe.model.tokenizer.alphabet import shown
from quantrecipe.model.tokenizer.kinds import LONGEST_TOKEN, MOST_TOKENS, TokenizerFiles

__all__ = ["is_tekken", "read_tekken"]

_FILE = "tekken.json"
_NORMAL, _CONTROL = 1, 3  # llama.cpp: enum llama_token_type
_IDS = {"bos": "<s>", "eos": "</s>", "unknown": "<unk>", "padding": "<pad>"}
_TEMPLATES = {"v3": "mistral-v3-tekken", "v7": "mistral-v7-tekken"}
"""Chat templates that llama.cpp has built in, by the version of the tokenizer."""
_USUAL = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
          "[/TOOL_RESULTS]", "[TOOL_CALLS]", "<pad>", "[PREFIX]", "[MIDDLE]", "[SUFFIX]")  # fmt: skip
"""The first special tokens of files that list none, in the order of their ids."""


def is_tekken(files: TokenizerFiles) -> bool:
    """True where there is a tekken.json."""
    return files.has(_FILE)


def read_tekken(files: TokenizerFiles) -> Pairs:
    """Read the keys. ModelError where the file is damaged, or has more or fewer tokens than the embedding rows."""
    document = read_json_object(files.folder / _FILE)
    try:
        config = document["config"]
        reserved, size = int(config["default_num_special_tokens"]), int(config["default_vocab_size"])
        if reserved > MOST_TOKENS:
            raise ValueError(f"default_num_special_tokens: {reserved:,}")
        special = _special(document, reserved)
        ranks = _ranks(files, document["vocab"][: size - reserved])
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        _fail(files, f"is not understood: {error!r}")
    tokens = [*special, *map(shown, ranks)]
    if len(tokens) != (files.size if files.size is not None else size):
        _fail(files, f"has {len(tokens)} tokens, but the embedding has {files.size or size} rows")
    ids = {kind: special.index(name) for kind, name in _IDS.items() if name in special}
    ids.setdefault("padding", ids.get("eos", 0))
    pairs: Pairs = {
        "tokenizer.ggml.model": text("gpt2"),
        "tokenizer.ggml.pre": text(files.pre or "tekken"),
        "tokenizer.ggml.merges": texts(_merges(files, ranks)),
    }
    pairs |= {f"tokenizer.ggml.{kind}_token_id": u32(ids[kind]) for kind in _IDS if kind in ids}
    pairs |= {
        "tokenizer.ggml.tokens": texts(tokens),
        "tokenizer.ggml.scores": f32s([0.0] * len(tokens)),
        "tokenizer.ggml.token_type": i32s([*[_CONTROL] * reserved, *[_NORMAL] * len(ranks)]),
        "tokenizer.ggml.add_bos_token": boolean(True),
        "tokenizer.ggml.add_eos_token": boolean(False),
    }
    template = files.folder / "chat_template.jinja"
    if template.is_file():
        pairs["tokenizer.chat_template"] = text(read_text(template).replace("\r\n", "\n").replace("\r", "\n"))
    elif built_in := _TEMPLATES.get(str(config.get("version"))):
        pairs["tokenizer.chat_template"] = text(built_in)
    return pairs


def _special(document: dict[str, Any], reserved: int) -> list[str]:
    """Texts of the special tokens by id."""
    listed = document.get("special_tokens")
    named = (
        dict(enumerate(_USUAL)) if listed is None else {int(t["rank"]): str(t["token_str"]) for t in listed}
    )
    return [named.get(number, f"<SPECIAL_{number}>") for number in range(reserved)]


def _ranks(files: TokenizerFiles, vocab: list[Any]) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for at, entry in enumerate(vocab):
        try:
            token = base64.b64decode(entry["token_bytes"], validate=True)
        except binascii.Error:
            _fail(files, f"has bytes of rank {at} that are no base64: {str(entry['token_bytes'])[:60]!r}")
        if len(token) > LONGEST_TOKEN:
            _fail(files, f"has a token of {len(token):,} bytes at rank {at} (at most {LONGEST_TOKEN:,})")
        if entry["rank"] != at or token in ranks:
            _fail(files, f"has a vocabulary out of order, or with repeats, at rank {at}")
        ranks[token] = at
    return ranks


def _merges(files: TokenizerFiles, ranks: dict[bytes, int]) -> list[str]:
    merges = []
    for token, rank in ranks.items():
        if rank < 256:
            continue
        halves = [(token[:at], token[at:]) for at in range(1, len(token))]
        found = [
            (ranks[left], ranks[right], left, right)
            for left, right in halves
            if left in ranks and right in ranks
        ]
        if not found:
            _fail(files, f"has a token of rank {rank} that no two others make: {token!r}")
        merges += [f"{shown(left)} {shown(right)}" for _, _, left, right in sorted(found)]
    return merges


def _fail(files: TokenizerFiles, what: str) -> Never:
    raise ModelError(what, "download it again", file=files.folder / _FILE)
