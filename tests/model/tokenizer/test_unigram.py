"""Unigram by its files' names. Recorded ones are in test_recorded.py."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from support.piece_files import BPE, IDENTITY, PIECES, message, piece

from quantrecipe.errors import ModelError
from quantrecipe.model.tokenizer import Vocabulary, tokenizer_pairs

T5 = Vocabulary(kinds=("unigram",))
MAP = b"\x01\x02map"
UNIGRAM = message(2, bytes([3 << 3, 1]))
NORMALIZER = message(3, message(2, MAP) + bytes([3 << 3, 0]))


def pairs(folder: Path, size: int | None = None, **config: Any) -> dict[str, Any]:
    found = tokenizer_pairs(folder, size, config, vocabulary=T5)
    return {key.removeprefix("tokenizer.ggml."): value.decode() for key, value in found.items()}


def make(folder: Path, config: Any = None, **parts: Any) -> Path:
    model = {"type": "Unigram", "unk_id": 1, "vocab": [["<s>", 0], ["<unk>", 0], ["▁a", -1.5], ["b", -2]]}
    normalizer = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(MAP).decode()}
    tokenizer = {
        "model": model | parts.pop("model", {}),
        "normalizer": normalizer,
        "added_tokens": [],
    } | parts
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


class TestT5:
    @pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model"])
    def test_pieces(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(PIECES + UNIGRAM + NORMALIZER)
        (tmp_path / "added_tokens.json").write_text('{"<new▁>": 5, "<far>": 9}')
        (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": {"3": {"content": "<x>"}}}')
        found = pairs(tmp_path, 7)
        assert found["tokens"] == ["<unk>", "<s>", "<0x00>", "▁a", "<u>", "<new▁>", "[PAD6]"]
        assert list(found["token_type"]) == [2, 3, 6, 1, 1, 4, 5]
        assert list(found["scores"]) == [0, 0, 0, -1.5, -2, -1000, -10000]
        assert (found["model"], found["pre"]) == ("t5", "default")
        assert (found["add_space_prefix"], found["remove_extra_whitespaces"]) == (False, True)
        assert bytes(found["precompiled_charsmap"]) == MAP

    def test_without_a_map(self, tmp_path: Path) -> None:
        (tmp_path / "spiece.model").write_bytes(PIECES + UNIGRAM + IDENTITY)
        found = pairs(tmp_path)
        assert "precompiled_charsmap" not in found
        assert (found["add_space_prefix"], found["remove_extra_whitespaces"]) == (True, False)

    def test_a_bpe_model_is_read_as_such(self, tmp_path: Path) -> None:
        (tmp_path / "tokenizer.model").write_bytes(PIECES + BPE + IDENTITY)
        assert pairs(tmp_path)["model"] == "llama"
        (tmp_path / "tokenizer.model").rename(tmp_path / "spiece.model")
        with pytest.raises(
            ModelError,
            match=r"spiece\.model: is a BPE vocabulary \(expected: Unigram\); if .* tokenizer\.model",
        ):
            pairs(tmp_path)

    def test_ids_beyond_the_rows_are_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "spiece.model").write_bytes(PIECES + UNIGRAM + IDENTITY)
        found = pairs(tmp_path, None, eos_token_id=4, pad_token_id=5)
        assert (found["eos_token_id"], "padding_token_id" in found) == (4, False)

    def test_cut_short(self, tmp_path: Path) -> None:
        (tmp_path / "spiece.model").write_bytes((PIECES + UNIGRAM)[:-1])
        with pytest.raises(ModelError, match=r"spiece\.model: is not a SentencePiece model, or damaged"):
            pairs(tmp_path)


class TestXlmRoberta:
    def test_ids_of_fairseq(self, tmp_path: Path) -> None:
        """The first four are fixed; the pieces follow from the fourth on, and the last row goes."""
        raw = PIECES + piece("c", -3) + UNIGRAM + NORMALIZER
        (tmp_path / "sentencepiece.bpe.model").write_bytes(raw)
        found = pairs(tmp_path, 8)
        assert found["tokens"] == ["<s>", "<pad>", "</s>", "<unk>", "▁a", "<u>", "c", "[PAD6]"]
        assert list(found["token_type"]) == [3, 3, 3, 2, 1, 1, 1, 5]
        assert list(found["scores"]) == [0, 0, 0, 0, -1.5, -2, -3, -10000]

    def test_tokenizer_json(self, tmp_path: Path) -> None:
        tokens = [{"id": 0, "content": "<s>", "special": True}, {"id": 3, "content": "b", "special": False}]
        found = pairs(make(tmp_path, {"bos_token": "<s>"}, added_tokens=tokens), 5)
        assert found["tokens"] == ["<s>", "<unk>", "▁a", "b", "[PAD4]"]
        assert list(found["token_type"]) == [3, 2, 1, 4, 5]
        assert list(found["scores"]) == [0, 0, -1.5, -2, -10000]
        assert (found["add_space_prefix"], found["remove_extra_whitespaces"]) == (True, False)
        assert bytes(found["precompiled_charsmap"]) == MAP

    def test_flags_and_the_unknown_token_by_name(self, tmp_path: Path) -> None:
        config = {
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": True,
            "unk_token": {"content": "b"},
        }
        tokens = [{"id": 3, "content": "b"}]
        found = pairs(make(tmp_path, config, added_tokens=tokens))
        assert list(found["token_type"]) == [1, 1, 1, 2]
        assert (found["add_space_prefix"], found["remove_extra_whitespaces"]) == (False, True)

    def test_a_map_within_a_sequence(self, tmp_path: Path) -> None:
        steps = [
            {"type": "Replace"},
            {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(MAP).decode()},
        ]
        found = pairs(make(tmp_path, normalizer={"type": "Sequence", "normalizers": steps}))
        assert bytes(found["precompiled_charsmap"]) == MAP
        assert "precompiled_charsmap" not in pairs(make(tmp_path, normalizer=None))

    @pytest.mark.parametrize(
        ("parts", "said"),
        [
            ({"normalizer": {"precompiled_charsmap": "?"}}, "precompiled_charsmap that is no base64"),
            ({"normalizer": {"precompiled_charsmap": 3}}, "precompiled_charsmap that is no base64"),
            ({"model": {"vocab": {"a": 0}}}, "has no vocabulary"),
            ({"model": {"vocab": [["a"]]}}, "no list of tokens with scores"),
            ({"model": {"vocab": [["a", "b"]]}}, "no list of tokens with scores"),
            ({"model": {"vocab": [[3, 0.5]]}}, "3 is no text"),
            ({"model": {"vocab": [["a", 0]] * 7}}, "has 7 tokens, but the embedding has 6 rows"),
        ],
    )
    def test_nonsense(self, parts: dict[str, Any], said: str, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=rf"tokenizer\.json: .*{said}"):
            pairs(make(tmp_path, **parts), 6)


def test_no_files(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"has no tokenizer\.model, spiece\.model or sentencepiece\.bpe\.model"
    ):
        pairs(tmp_path)
