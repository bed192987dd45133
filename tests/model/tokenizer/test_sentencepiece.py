"""tokenizer.model is read without trust. That its content is right, tests/model/test_huggingface.py compares."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.errors import ModelError
from quantrecipe.model.tokenizer import tokenizer_pairs
from quantrecipe.model.tokenizer.sentencepiece import read_pieces

RECORDED = Path(__file__).parents[2] / "data/huggingface/llama-sentencepiece/tokenizer.model"


def message(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2, len(body)]) + body


def piece(token: str, score: float, kind: int | None = None) -> bytes:
    body = message(1, token.encode()) + b"\x15" + struct.pack("<f", score)
    return message(1, body if kind is None else body + bytes([3 << 3, kind]))


BPE = message(2, bytes([3 << 3, 2]))
IDENTITY = message(3, message(1, b"identity") + bytes([4 << 3, 0]))
PIECES = (
    piece("<unk>", 0, 2)
    + piece("<s>", 0, 3)
    + piece("<0x00>", 0, 6)
    + piece("▁a", -1.5)
    + piece("<u>", -2, 4)
)


def make(folder: Path, raw: bytes = PIECES + BPE + IDENTITY, **files: Any) -> Path:
    (folder / "tokenizer.model").write_bytes(raw)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_pieces_and_padding(tmp_path: Path) -> None:
    made = read_pieces(make(tmp_path), {}, 6)
    assert made.tokens == ["<unk>", "<s>", "<0x00>", "▁a", "<u>", "[PAD5]"]
    assert made.scores == [0, 0, 0, -1.5, -2, -10000]
    assert made.types == [2, 3, 6, 1, 1, 5]


def test_added_tokens(tmp_path: Path) -> None:
    config = {
        "added_tokens_decoder": {
            "6": {"content": "<|x|>"},
            "7": {"content": "▁y"},
            "9": {"content": "beyond"},
        }
    }
    made = read_pieces(make(tmp_path, added_tokens={"<new>": 5, "<x>": 6}), config, 8)
    assert made.tokens[5:] == ["<new>", "<|x|>", " y"]
    assert made.types[5:] == [4, 3, 4]
    assert made.scores[5:] == [-1000] * 3


def test_it_comes_before_the_tokenizer_json_made_of_it(tmp_path: Path) -> None:
    model = {"type": "BPE", "vocab": {"▁a": 0}, "merges": [], "byte_fallback": True}
    make(tmp_path, tokenizer={"model": model, "added_tokens": [{"content": "<s>", "id": 1}]})
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    pairs = tokenizer_pairs(tmp_path, None, {"pad_token_id": 5})
    assert pairs["tokenizer.ggml.model"].decode() == "llama"
    assert pairs["tokenizer.ggml.bos_token_id"].decode() == 1
    assert "tokenizer.ggml.padding_token_id" not in pairs  # 5 is beyond the vocabulary


@pytest.mark.parametrize(
    "raw", [PIECES + BPE, PIECES + BPE + message(3, message(2, b"map") + bytes([4 << 3, 0]))]
)
def test_normalizers_are_refused_unless_overridden(raw: bytes, tmp_path: Path) -> None:
    make(tmp_path, raw if raw != PIECES + BPE else raw + message(3, message(1, b"identity")))
    with pytest.raises(ModelError, match=r"tokenizer\.model: normalizes text"):
        tokenizer_pairs(tmp_path, None, {})
    assert tokenizer_pairs(tmp_path, None, {}, pre="default")["tokenizer.ggml.pre"].decode() == "default"


def test_unigram_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no BPE vocabulary"):
        read_pieces(make(tmp_path, PIECES + message(2, bytes([3 << 3, 1])) + IDENTITY), {}, None)


def test_a_field_that_ends_within_its_bytes(tmp_path: Path) -> None:
    """A file that was cut short is refused, though all that is read of it is there."""
    cut = message(15, b"a field that nobody reads")[:-1]
    with pytest.raises(ModelError, match="is not a SentencePiece model, or damaged"):
        read_pieces(make(tmp_path, PIECES + cut), {}, None)


@pytest.mark.parametrize("added", [{"x": -1}, {"x": "1"}, {"x": True}, {"x": None}])
def test_nonsense_among_added_tokens(added: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"added_tokens\.json"):
        read_pieces(make(tmp_path, added_tokens=added), {}, None)


@given(
    raw=st.binary(max_size=200)
    | st.integers(0, RECORDED.stat().st_size).map(lambda at: RECORDED.read_bytes()[:at])
)
def test_anything_is_read_or_refused(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "tokenizer.model").write_bytes(raw)
    try:
        read_pieces(folder, {}, 8)
    except ModelError as error:
        assert "tokenizer.model" in str(error)
