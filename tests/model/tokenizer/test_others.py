"""PLaMo's and RWKV's vocabularies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.tokenizer import Vocabulary, tokenizer_pairs
from quantrecipe.model.tokenizer.others import RWKV_FILE

PLAMO: list[list[Any]] = [
    ["<|plamo:unk|>", 0, "UNKNOWN"],
    ["<|plamo:bos|>", 0, "CONTROL"],
    ["<0x00>", -1, "BYTE", None],
    ["<|plamo:op|>", 0, "NORMAL"],
    ["あ", -1.5],
]


def pairs(folder: Path, kind: str, size: int | None = None, **config: Any) -> dict[str, Any]:
    found = tokenizer_pairs(folder, size, config, vocabulary=Vocabulary(kinds=(kind,)))
    return {key.removeprefix("tokenizer.ggml."): value.decode() for key, value in found.items()}


class TestPlamo:
    def make(self, folder: Path, *lines: Any, **config: Any) -> Path:
        text = "\n\n".join(json.dumps(line) for line in lines or PLAMO)
        (folder / "tokenizer.jsonl").write_text(text, encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return folder

    def test_tokens_and_ids(self, tmp_path: Path) -> None:
        self.make(tmp_path, bos_token="<|plamo:bos|>", unk_token={"content": "<|plamo:unk|>"}, sep_token=None)
        found = pairs(tmp_path, "plamo", 7)
        assert found["tokens"] == [*(line[0] for line in PLAMO), "[PAD1]", "[PAD2]"]
        assert list(found["token_type"]) == [2, 3, 6, 3, 1, 5, 5]
        assert list(found["scores"]) == [0, 0, -1, 0, -1.5, -1000, -1000]
        ids = {key: number for key, number in found.items() if key.endswith("_id")}
        assert ids == {"bos_token_id": 1, "unknown_token_id": 0, "eot_token_id": 4}
        assert (found["model"], found["pre"], found["add_space_prefix"]) == ("plamo2", "default", False)

    @pytest.mark.parametrize(
        "line", [[3, 0, "NORMAL"], ["a", "x"], ["a", 10**400], ["a", 1, []], ["a"], {"a": 1}, 3, None]
    )
    def test_nonsense(self, line: Any, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"tokenizer\.jsonl:3: says .* \(expected: \[\"token\", score"):
            pairs(self.make(tmp_path, PLAMO[0], line), "plamo")

    def test_a_token_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(
            ModelError, match=r"has no token '<x>', which tokenizer_config\.json calls bos_token"
        ):
            pairs(self.make(tmp_path, bos_token="<x>"), "plamo")

    def test_more_tokens_than_rows(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="has 5 tokens, but the embedding has 4 rows"):
            pairs(self.make(tmp_path), "plamo", 4)


class TestRwkv:
    def make(self, folder: Path, *lines: str) -> Path:
        usual = ("1 '\\x00' 1", "2 b'\\xff' 1", "3 ' a\\n' 3", '4 "it\'s" 4', "5 'é' 2")
        (folder / RWKV_FILE).write_text("\n".join(lines or usual) + "\n", encoding="utf-8")
        return folder

    def test_tokens_and_ids(self, tmp_path: Path) -> None:
        found = pairs(self.make(tmp_path), "rwkv", 8, eos_token_id=5, pad_token_id=6)
        assert found["tokens"] == ["<s>", r"\x00", r"\xff", r" a\n", "it's", r"\xc3\xa9", "[PAD6]", "[PAD7]"]
        assert list(found["token_type"]) == [3, 1, 1, 1, 1, 1, 5, 5]
        ids = {key: number for key, number in found.items() if key.endswith("_id")}
        assert ids == {"bos_token_id": 0, "eos_token_id": 0, "padding_token_id": 6, "eot_token_id": 261}
        assert (found["model"], found["tokenizer.chat_template"]) == ("rwkv", "rwkv-world")
        assert "pre" not in found

    def test_its_own_template(self, tmp_path: Path) -> None:
        (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "own"}')
        found = tokenizer_pairs(self.make(tmp_path), None, {}, vocabulary=Vocabulary(kinds=("rwkv",)))
        assert found["tokenizer.chat_template"].decode() == "own"
        assert len(found["tokenizer.ggml.tokens"]) == 65536

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "1",
            "1 'a'",
            "1 'a' 2",
            "1 'a' x",
            "1 a 1",
            "1 __import__('os') 1",
            "1 3 1",
            "1 'a 1",
            "1 " + "(" * 500,
        ],
    )
    def test_nonsense(self, line: str, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=rf"{RWKV_FILE}:2: says"):
            pairs(self.make(tmp_path, "1 'a' 1", line), "rwkv")

    def test_more_tokens_than_rows(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="has 6 tokens, but the embedding has 5 rows"):
            pairs(self.make(tmp_path), "rwkv", 5)
