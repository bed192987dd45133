"""BPE with byte_fallback in a tokenizer.json. A recorded Gemma 4 is in test_recorded.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.tokenizer import Vocabulary, tokenizer_pairs

LLAMA = Vocabulary(kinds=("sentencepiece", "llama-hf", "bpe"))
GEMMA4 = Vocabulary(kinds=("gemma4",))
VOCAB = {"<unk>": 0, "<s>": 1, "<0x0A>": 2, "a": 3, "b": 4, "ab": 5}


def added(number: int, content: str, *, special: bool = False) -> dict[str, Any]:
    return {"id": number, "content": content, "special": special, "normalized": False}


def make(folder: Path, *tokens: dict[str, Any], config: Any = None, **model: Any) -> Path:
    whole = {"type": "BPE", "byte_fallback": True, "vocab": VOCAB, "merges": ["a b"], **model}
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens, "model": whole}))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def pairs(folder: Path, size: int | None = None, vocabulary: Vocabulary = LLAMA) -> dict[str, Any]:
    found = tokenizer_pairs(folder, size, {"eos_token_id": 3, "pad_token_id": 9}, vocabulary=vocabulary)
    return {key.removeprefix("tokenizer.ggml."): value.decode() for key, value in found.items()}


def test_types(tmp_path: Path) -> None:
    config = {"unk_token": "<unk>", "bos_token": {"content": "<s>"}, "additional_special_tokens": ["<x>"]}
    tokens = [added(1, "<s>", special=True), added(6, "<x>"), added(7, "<y>", special=True), added(4, "b")]
    found = pairs(make(tmp_path, *tokens, config=config), 8)
    assert found["tokens"] == [*VOCAB, "<x>", "<y>"]
    assert list(found["token_type"]) == [
        3,
        3,
        6,
        1,
        1,
        1,
        3,
        4,
    ]  # of special tokens, only those that are named
    assert list(found["scores"]) == [-1000] * 8
    assert (found["model"], found["pre"], "merges" in found) == ("llama", "default", False)
    assert found["bos_token_id"] == 1


def test_ids_beyond_the_rows_are_left_out(tmp_path: Path) -> None:
    found = pairs(make(tmp_path))
    assert (found["eos_token_id"], "padding_token_id" in found) == (3, False)


def test_added_tokens_that_look_like_others(tmp_path: Path) -> None:
    """A byte is one of the model's own tokens; and what these are called stands in the model."""
    found = pairs(make(tmp_path, added(4, "other"), added(6, "<0x0B>")))
    assert (found["tokens"][4], found["tokens"][6]) == ("b", "<0x0B>")
    assert list(found["token_type"][4:]) == [1, 1, 4]


def test_special_tokens_of_the_class(tmp_path: Path) -> None:
    assert list(pairs(make(tmp_path, config={"tokenizer_class": "LlamaTokenizerFast"}))["token_type"])[
        :2
    ] == [3, 3]
    config = {"tokenizer_class": "LlamaTokenizer", "unk_token": None}
    assert list(pairs(make(tmp_path, config=config))["token_type"])[:2] == [1, 3]


def test_gemma4(tmp_path: Path) -> None:
    names = {"additional_special_tokens": ["<|channel>", "<|turn>"], "add_bos_token": False}
    found = pairs(make(tmp_path, added(6, "<|channel>"), added(7, "<|turn>"), config=names), 8, GEMMA4)
    assert list(found["token_type"][6:]) == [4, 3]
    assert found["merges"] == ["a b"]
    assert "pre" not in found
    assert (found["model"], found["add_bos_token"], found["add_space_prefix"]) == ("gemma4", True, False)


def test_lines_by_the_architecture_s_word(tmp_path: Path) -> None:
    """A model that merges lines of characters goes by the name that its architecture lists."""
    found = pairs(make(tmp_path), None, Vocabulary(kinds=("bpe",), pre=("gemma4",)))
    assert (found["model"], found["pre"], found["merges"]) == ("gpt2", "gemma4", ["a b"])
    with pytest.raises(ModelError, match="is a SentencePiece vocabulary"):
        pairs(tmp_path, None, Vocabulary(kinds=("bpe",)))


def test_gaps(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no token of the id 6, though it has 7 tokens"):
        pairs(make(tmp_path, added(7, "<y>")))
    with pytest.raises(ModelError, match="has no token of the id 0, though it has 1 tokens"):
        pairs(make(tmp_path, vocab={"a": 1}))


@pytest.mark.parametrize("size", [5, 7])
@pytest.mark.parametrize("vocabulary", [LLAMA, GEMMA4])
def test_another_number_of_rows(size: int, vocabulary: Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"has 6 tokens, but the embedding has {size} rows"):
        pairs(make(tmp_path), size, vocabulary)


def test_byte_level_is_another_kind(tmp_path: Path) -> None:
    make(tmp_path, byte_fallback=False)
    with pytest.raises(ModelError, match=r"llama\.cpp has no name for its rules"):
        pairs(tmp_path)
