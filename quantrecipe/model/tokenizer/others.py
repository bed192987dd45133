"""Vocabularies in formats of one family's own: PLaMo 2 and 3, RWKV.

tokenizer.jsonl               one JSON list a line: ["token", score, "TYPE", …]
rwkv_vocab_v20230424.txt      one token a line: 257 'abc' 3 — the id, a Python literal, the count of its bytes
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Never

from quantrecipe.errors import ModelError
from quantrecipe.model.json_file import read_text
from quantrecipe.model.pairs import Pairs, boolean, f32s, i32s, text, texts, u32
from quantrecipe.model.tokenizer.added import content
from quantrecipe.model.tokenizer.completed import completed
from quantrecipe.model.tokenizer.kinds import TokenizerFiles

__all__ = ["RWKV_FILE", "is_plamo", "is_rwkv", "read_plamo", "read_rwkv"]

_NORMAL, _UNKNOWN, _CONTROL, _UNUSED, _BYTE = 1, 2, 3, 5, 6  # llama.cpp: enum llama_token_type
_AGAIN = "download it again"
_PLAMO_FILE = "tokenizer.jsonl"
_PLAMO_TYPES = {"UNKNOWN": _UNKNOWN, "CONTROL": _CONTROL, "BYTE": _BYTE}
_PLAMO_IDS = {
    "bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "sep_token": "seperator", "unk_token": "unknown",
}  # fmt: skip
_PLAMO_EOT = 4  # <|plamo:op|>
RWKV_FILE = "rwkv_vocab_v20230424.txt"
"""What RWKV's vocabulary is called in all its folders."""
_RWKV_SIZE = 65536
_RWKV_EOT = 261  # two line ends, by which its chats go on


def is_plamo(files: TokenizerFiles) -> bool:
    """True where there is a tokenizer.jsonl."""
    return files.has(_PLAMO_FILE)


def read_plamo(files: TokenizerFiles) -> Pairs:
    """Read the keys of a vocabulary of PLaMo 2 or 3."""
    path = files.folder / _PLAMO_FILE
    tokens, scores, types = [], [], []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            token, score, kind = (*json.loads(line), "NORMAL")[:3]
            if not isinstance(token, str) or not isinstance(kind, str):
                raise TypeError
            scores.append(float(score))
        except (ValueError, TypeError, OverflowError, RecursionError):
            what = f'says {line[:60]!r} (expected: ["token", score, "TYPE", …])'
            raise ModelError(what, _AGAIN, file=path, line=number) from None
        own = token.startswith("<|plamo:") and token.endswith("|>")
        types.append(_PLAMO_TYPES.get(kind, _CONTROL if own else _NORMAL))
        tokens.append(token)
    missing = _missing(path, tokens, files.size)
    pairs = {
        "tokenizer.ggml.model": text("plamo2"),
        "tokenizer.ggml.pre": text("default"),
        "tokenizer.ggml.tokens": texts([*tokens, *(f"[PAD{number}]" for number in range(1, missing + 1))]),
        "tokenizer.ggml.scores": f32s([*scores, *[-1000.0] * missing]),
        "tokenizer.ggml.token_type": i32s([*types, *[_UNUSED] * missing]),
    }
    for name, kind in _PLAMO_IDS.items():
        if named := content(files.settings.get(name)):
            if named not in tokens:
                _fail(path, f"has no token {named!r}, which tokenizer_config.json calls {name}")
            pairs[f"tokenizer.ggml.{kind}_token_id"] = u32(tokens.index(named))
    pairs["tokenizer.ggml.eot_token_id"] = u32(_PLAMO_EOT)
    pairs["tokenizer.ggml.add_space_prefix"] = boolean(False)
    return pairs


def is_rwkv(files: TokenizerFiles) -> bool:
    """True where there is RWKV's list of tokens."""
    return files.has(RWKV_FILE)


def read_rwkv(files: TokenizerFiles) -> Pairs:
    """Read the keys of RWKV's vocabulary: token 0 begins and ends texts; bytes are written as Python shows them."""
    path = files.folder / RWKV_FILE
    tokens, types = ["<s>"], [_CONTROL]
    for number, line in enumerate(read_text(path).splitlines(), 1):
        tokens.append(_rwkv_token(path, number, line))
        types.append(_NORMAL)
    size = files.size if files.size is not None else _RWKV_SIZE
    missing = _missing(path, tokens, size)
    tokens += [f"[PAD{number}]" for number in range(len(tokens), size)]
    pairs: Pairs = {
        "tokenizer.ggml.model": text("rwkv"),
        "tokenizer.ggml.tokens": texts(tokens),
        "tokenizer.ggml.token_type": i32s([*types, *[_UNUSED] * missing]),
    }
    pairs = completed(files, pairs)
    pairs.setdefault("tokenizer.ggml.eot_token_id", u32(_RWKV_EOT))
    pairs |= {"tokenizer.ggml.bos_token_id": u32(0), "tokenizer.ggml.eos_token_id": u32(0)}
    pairs.setdefault("tokenizer.chat_template", text("rwkv-world"))  # llama.cpp has this one built in
    return pairs


def _rwkv_token(path: Path, number: int, line: str) -> str:
    try:
        _, rest = line.split(" ", 1)
        literal, length = rest.rsplit(" ", 1)
        token = ast.literal_eval(literal)
        raw = token.encode() if isinstance(token, str) else token
        if not isinstance(raw, bytes) or len(raw) != int(length):
            raise ValueError
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        what = f"says {line[:60]!r} (expected: the id, a text or bytes as Python writes them, the count of bytes)"
        raise ModelError(what, _AGAIN, file=path, line=number) from None
    return repr(raw)[2:-1]


def _missing(path: Path, tokens: list[str], size: int | None) -> int:
    if size is not None and len(tokens) > size:
        what = f"has {len(tokens)} tokens, but the embedding has {size} rows"
        raise ModelError(what, "set vocab_size to the number of rows of the embedding", file=path)
    return 0 if size is None else size - len(tokens)


def _fail(path: Path, what: str) -> Never:
    raise ModelError(what, _AGAIN, file=path)
