"""tekken.json: special tokens, byte sequences, and every merge that leads to a token."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.tokenizer import Vocabulary, tokenizer_pairs

MISTRAL = Vocabulary(kinds=("sentencepiece", "bpe", "mistral"))
BYTES = [bytes([byte]) for byte in range(256)]
SPECIAL: list[dict[str, Any]] = [
    {"rank": at, "token_str": name} for at, name in enumerate(("<unk>", "<s>", "</s>", "<pad>"))
]


def make(folder: Path, tokens: list[bytes], **parts: Any) -> Path:
    vocab = [{"rank": at, "token_bytes": base64.b64encode(token).decode()} for at, token in enumerate(tokens)]
    config = {"default_vocab_size": 6 + len(tokens), "default_num_special_tokens": 6, "version": "v3"}
    document = {"config": config, "vocab": vocab, "special_tokens": SPECIAL} | parts
    (folder / "tekken.json").write_text(json.dumps(document))
    return folder


def pairs(folder: Path, size: int | None = None, **arguments: Any) -> dict[str, Any]:
    found = tokenizer_pairs(folder, size, {}, vocabulary=MISTRAL, **arguments)
    return {key.removeprefix("tokenizer.ggml."): value.decode() for key, value in found.items()}


def test_tokens_ids_and_merges(tmp_path: Path) -> None:
    found = pairs(make(tmp_path, [*BYTES, b"ab", b"bc", b"abc", b" a"]), 266)
    assert found["tokens"][:6] == ["<unk>", "<s>", "</s>", "<pad>", "<SPECIAL_4>", "<SPECIAL_5>"]
    assert found["tokens"][6 + 255 :] == ["ÿ", "ab", "bc", "abc", "Ġa"]
    assert list(found["token_type"][4:8]) == [3, 3, 1, 1]
    assert found["merges"] == ["a b", "b c", "a bc", "ab c", "Ġ a"]  # the token of the lower rank first
    ids = {key: found[f"{key}_token_id"] for key in ("bos", "eos", "unknown", "padding")}
    assert ids == {"bos": 1, "eos": 2, "unknown": 0, "padding": 3}
    assert (found["pre"], found["add_bos_token"], found["add_eos_token"]) == ("tekken", True, False)
    assert found["tokenizer.chat_template"] == "mistral-v3-tekken"


def test_merges_of_one_token_stand_in_the_order_of_ranks(tmp_path: Path) -> None:
    found = pairs(make(tmp_path, [*BYTES, b"bc", b"abc", b"ab", b"cd", b"abcd"]))
    assert found["merges"][-2:] == ["abc d", "ab cd"]


def test_without_a_list_of_special_tokens(tmp_path: Path) -> None:
    found = pairs(make(tmp_path, BYTES, special_tokens=None))
    assert found["tokens"][:6] == ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]"]
    assert found["padding_token_id"] == 2  # the end of a text, where there is no padding


def test_a_template_beside_it(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"a\r\nb")
    assert pairs(make(tmp_path, BYTES))["tokenizer.chat_template"] == "a\nb"
    (tmp_path / "chat_template.jinja").unlink()
    config = {"default_vocab_size": 262, "default_num_special_tokens": 6, "version": "v13"}
    assert "tokenizer.chat_template" not in pairs(make(tmp_path, BYTES, config=config))


def test_the_vocabulary_is_cut_to_its_size(tmp_path: Path) -> None:
    config = {"default_vocab_size": 262, "default_num_special_tokens": 6}
    assert len(pairs(make(tmp_path, [*BYTES, b"ab"], config=config))["tokens"]) == 262


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"config": {}}, "is not understood: KeyError"),
        ({"vocab": 3}, "is not understood: TypeError"),
        ({"vocab": [{"rank": 0, "token_bytes": "?"}]}, r"has bytes of rank 0 that are no base64: '\?'"),
        ({"vocab": [{"rank": 1, "token_bytes": "IQ=="}]}, "out of order, or with repeats, at rank 0"),
        ({"vocab": [{"rank": 0, "token_bytes": "IQ=="}, {"rank": 1, "token_bytes": "IQ=="}]}, "at rank 1"),
    ],
)
def test_damaged(parts: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"tekken\.json: .*{said}"):
        pairs(make(tmp_path, BYTES, **parts))


def test_a_long_token_is_told_before_its_halves_are_tried(tmp_path: Path) -> None:
    """Of a megabyte there would be a million pairs, a terabyte together."""
    with pytest.raises(ModelError, match=r"has a token of 1,000,000 bytes at rank 256 \(at most 2,048\)"):
        pairs(make(tmp_path, [*BYTES, b"a" * 10**6]), 263)


@pytest.mark.parametrize("number", [10**9, float("inf")])
def test_more_special_tokens_than_there_can_be(number: float, tmp_path: Path) -> None:
    config = {"default_vocab_size": 10, "default_num_special_tokens": number}
    with pytest.raises(ModelError, match="is not understood"):
        pairs(make(tmp_path, BYTES, config=config), 262)


def test_a_token_that_nothing_makes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has a token of rank 256 that no two others make: b'abc'"):
        pairs(make(tmp_path, [*BYTES, b"abc"]))


def test_another_number_of_rows(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has 262 tokens, but the embedding has 263 rows"):
        pairs(make(tmp_path, BYTES), 263)
