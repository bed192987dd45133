"""Vocabularies of each kind, against llama.cpp's converter (tests/data/tokenizers/README.md)."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.vocabularies import DATA, KINDS

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.pairs import u32
from quantrecipe.model.tokenizer import Vocabulary, tokenizer_pairs

LONG = 16  # longer arrays are recorded as count and hash
COUNT = "tokenizer.ggml.token_type_count"


def test_all_are_compared() -> None:
    assert sorted(KINDS) == sorted(path.name for path in DATA.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", KINDS)
def test_recorded(name: str) -> None:
    config = json.loads((DATA / name / "config.json").read_text())
    expected = json.loads((DATA / name / "converted.json").read_text(encoding="utf-8"))
    kept = [row for row in expected if row[0] != COUNT]  # the architecture's key, not the vocabulary's
    size = next(_count(value) for key, _, value in expected if key == "tokenizer.ggml.tokens")
    made = tokenizer_pairs(DATA / name, size, config, vocabulary=KINDS[name])
    assert [[key, *_record(value)] for key, value in made.items()] == kept


def test_an_architecture_may_choose_among_kinds(tmp_path: Path) -> None:
    """The first of the kinds that the folder has files for is read."""
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copy(DATA / "phi3" / name, tmp_path / name)
    shutil.copy(DATA / "exaone4" / "tokenizer.json", tmp_path / "tokenizer.json")
    models = {
        kinds: tokenizer_pairs(tmp_path, None, {}, vocabulary=Vocabulary(kinds=kinds))[
            "tokenizer.ggml.model"
        ].decode()
        for kinds in (("bpe", "sentencepiece"), ("unigram", "bpe"), ("tiktoken", "bpe"), ("none", "bpe"))
    }
    assert list(models.values()) == ["gpt2", "llama", "gpt2", "none"]


def test_ids_of_a_text_model_within_another(tmp_path: Path) -> None:
    """Models with projectors nest the text model's configuration; what stands outside comes before."""
    config = {"bos_token_id": 7, "text_config": {"bos_token_id": 8, "pad_token_id": 9}}
    pairs = tokenizer_pairs(DATA / "kimi-k2", 320, config, vocabulary=KINDS["kimi-k2"])
    assert pairs["tokenizer.ggml.bos_token_id"] == u32(7)
    assert pairs["tokenizer.ggml.padding_token_id"] == u32(9)


def _count(value: Any) -> int:
    return value["count"] if isinstance(value, dict) else len(value)


def _record(value: GGUFValue) -> tuple[str, Any]:
    decoded = value.decode()
    if value.type is not ValueType.ARRAY:
        return value.type.name, decoded
    (item,) = struct.unpack_from("<I", value.payload)
    name = f"ARRAY[{ValueType(item).name}]"
    items = decoded.tolist() if isinstance(decoded, np.ndarray) else list(decoded)
    if len(items) <= LONG:
        return name, items
    return name, {"count": len(items), "sha256": hashlib.sha256(value.payload[12:]).hexdigest()}
