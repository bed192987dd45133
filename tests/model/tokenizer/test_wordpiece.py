"""WordPiece: what llama.cpp marks, and what it can't do. A recorded one is in test_recorded.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.tokenizer import Vocabulary, tokenizer_pairs

BERT = Vocabulary(kinds=("wordpiece",))


def make(folder: Path, *, normalizer: Any = None, cut: str = "BertPreTokenizer", **model: Any) -> Path:
    vocab = {"[PAD]": 0, "play": 1, "##ing": 2, "##": 3}
    tokenizer = {
        "added_tokens": [{"id": 0, "content": "[PAD]", "special": True}],
        "normalizer": normalizer,
        "pre_tokenizer": {"type": cut},
        "model": {"type": "WordPiece", "continuing_subword_prefix": "##", "vocab": vocab, **model},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def pairs(folder: Path, size: int | None = None, **arguments: Any) -> dict[str, Any]:
    found = tokenizer_pairs(
        folder, size, {"eos_token_id": 3, "pad_token_id": 9}, vocabulary=BERT, **arguments
    )
    return {key.removeprefix("tokenizer.ggml."): value.decode() for key, value in found.items()}


def test_beginnings_are_marked(tmp_path: Path) -> None:
    found = pairs(make(tmp_path), 5)
    assert found["tokens"] == ["[PAD]", "▁play", "ing", "", "▁[PAD4]"]
    assert list(found["token_type"]) == [3, 1, 1, 1, 5]
    assert (found["model"], found["pre"]) == ("bert", "jina-v2-en")
    assert (found["eos_token_id"], "padding_token_id" in found) == (3, False)  # 9 is beyond the rows


@pytest.mark.parametrize(
    ("normalizer", "said"),
    [
        ({"lowercase": True, "strip_accents": None}, {"lowercase": True}),
        ({"lowercase": False, "strip_accents": False}, {"lowercase": False, "strip_accents": False}),
        ({}, {}),
    ],
)
def test_normalizer(normalizer: dict[str, Any], said: dict[str, bool], tmp_path: Path) -> None:
    found = pairs(make(tmp_path, normalizer={"type": "BertNormalizer", **normalizer}))
    assert {key: flag for key, flag in found.items() if key.startswith("normalizer")} == {
        f"normalizer.{key}": flag for key, flag in said.items()
    }


def test_what_llama_cpp_can_t(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"marks pieces within words with '@@', .* \(expected: '##'\)"):
        pairs(make(tmp_path, continuing_subword_prefix="@@"))
    with pytest.raises(ModelError, match=r"cuts text up by Metaspace, .* say: --pre default"):
        pairs(make(tmp_path, cut="Metaspace"))
    assert pairs(tmp_path, pre="default")["pre"] == "default"


def test_more_tokens_than_rows(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has the token id 3, but config\.json says vocab_size: 3"):
        pairs(make(tmp_path), 3)


def test_another_kind(tmp_path: Path) -> None:
    make(tmp_path, type="WordLevel")
    with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
        pairs(tmp_path)
