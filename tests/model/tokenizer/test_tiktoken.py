"""tiktoken: ranks become ids and merges, remote code is read and never run."""

from __future__ import annotations

import base64
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.errors import ModelError
from quantrecipe.model.tokenizer import Vocabulary, tokenizer_pairs
from quantrecipe.model.tokenizer.alphabet import shown
from quantrecipe.model.tokenizer.pre_tokenizer import known_pre_tokenizers
from quantrecipe.model.tokenizer.tiktoken import merges_of

QWEN2 = next(rules.splits[0] for rules in known_pre_tokenizers() if rules.name == "qwen2")
BYTES = [bytes([byte]) for byte in range(256)]
KIMI = Vocabulary(kinds=("tiktoken",), pre=("kimi-k2",))


def lines(tokens: list[bytes]) -> str:
    return "".join(f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens))


def make(folder: Path, text: str | None = None, *, name: str = "tiktoken.model", **config: Any) -> Path:
    (folder / name).write_text(lines([*BYTES, b"ab", b" a", b"abc"]) if text is None else text)
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def pairs(
    folder: Path, size: int | None = None, vocabulary: Vocabulary = KIMI, **config: Any
) -> dict[str, Any]:
    found = tokenizer_pairs(folder, size, config, vocabulary=vocabulary)
    return {key.removeprefix("tokenizer.ggml."): value.decode() for key, value in found.items()}


class TestTokens:
    def test_ranks_specials_and_padding(self, tmp_path: Path) -> None:
        added = {"260": {"content": "[EOS]", "special": True}, "261": {"content": "far", "special": False}}
        found = pairs(make(tmp_path, added_tokens_decoder=added), 263)
        assert found["tokens"][255:] == ["ÿ", "ab", "Ġa", "abc", "[PAD259]", "[EOS]", "far", "[PAD262]"]
        assert list(found["token_type"][255:]) == [1, 1, 1, 1, 5, 3, 3, 5]
        assert found["merges"] == ["a b", "Ġ a", "ab c"]
        assert (found["model"], found["pre"]) == ("gpt2", "kimi-k2")

    def test_specials_beyond_the_rows_are_left_out(self, tmp_path: Path) -> None:
        added = {"259": {"content": "in"}, "260": {"content": "out"}}
        assert pairs(make(tmp_path, added_tokens_decoder=added), 260)["tokens"][258:] == ["abc", "in"]

    def test_names_that_only_remote_code_has(self, tmp_path: Path) -> None:
        special = Vocabulary(
            kinds=("tiktoken",),
            pre=("qwen2",),
            after_ranks=("<|end|>", "<|extra_0|>"),
            special=(("unk", "<|end|>"), ("bos", "<|end|>")),
        )
        found = pairs(make(tmp_path, name="qwen.tiktoken"), 262, special, bos_token_id=7)
        assert found["tokens"][259:] == ["<|end|>", "<|extra_0|>", "[PAD261]"]
        assert (found["unknown_token_id"], found["bos_token_id"]) == (259, 7)

    def test_reserved_names_where_remote_code_has_such(self, tmp_path: Path) -> None:
        (tmp_path / "tokenization_kimi.py").write_text('f"<|reserved_token_{i}|>"\nraise SystemExit("run")\n')
        added = {"260": {"content": "[BOS]"}}
        found = pairs(make(tmp_path, added_tokens_decoder=added), 259 + 256 + 1)
        assert found["tokens"][259:262] == ["<|reserved_token_259|>", "[BOS]", "<|reserved_token_261|>"]
        assert found["tokens"][-2:] == ["<|reserved_token_514|>", "[PAD515]"]
        assert list(found["token_type"][-2:]) == [3, 5]

    def test_an_id_that_tokenizer_config_names(self, tmp_path: Path) -> None:
        """Nothing else gives it: without tokenizer.json, names aren't looked up."""
        vocabulary = Vocabulary(kinds=("tiktoken",), pre=("kimi-k2",), special_over=(("eos", "eos_token"),))
        make(tmp_path, added_tokens_decoder={"259": {"content": "[EOS]"}}, eos_token="[EOS]")
        assert pairs(tmp_path, 260, vocabulary, eos_token_id=3)["eos_token_id"] == 259
        assert pairs(tmp_path, 260, KIMI, eos_token_id=3)["eos_token_id"] == 3


class TestPreTokenizer:
    @pytest.mark.parametrize(
        ("code", "name"),
        [
            (f"PAT_STR = r'''{QWEN2}'''", "hunyuan"),
            (f"class T:\n    pat_str = '|'.join([r'''{QWEN2[:20]}''', r'''{QWEN2[21:]}'''])", "hunyuan"),
            ("other = 3", "kimi-k2"),
            ("not python (", "kimi-k2"),
            ("PAT_STR = made()", "kimi-k2"),
            ("PAT_STR = '|'.join(['a', b])", "kimi-k2"),
        ],
    )
    def test_by_the_literal_in_remote_code(self, code: str, name: str, tmp_path: Path) -> None:
        assert QWEN2[20] == "|"
        (tmp_path / "tokenization_x.py").write_text(code)
        vocabulary = Vocabulary(kinds=("tiktoken",), pre=("kimi-k2", "hunyuan"))
        assert pairs(make(tmp_path), None, vocabulary)["pre"] == name

    def test_by_the_caller(self, tmp_path: Path) -> None:
        (tmp_path / "tokenization_x.py").write_text("PAT_STR = '[a-z]+'")
        made = tokenizer_pairs(make(tmp_path), None, {}, pre="tekken", vocabulary=KIMI)
        assert made["tokenizer.ggml.pre"].decode() == "tekken"

    def test_an_expression_that_llama_cpp_does_not_have(self, tmp_path: Path) -> None:
        (tmp_path / "tokenization_x.py").write_text("PAT_STR = '[a-z]+'")
        with pytest.raises(ModelError, match=r"has no name for '\[a-z\]\+', .*say: --pre NAME"):
            pairs(make(tmp_path))

    def test_nothing_known(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="nothing says how text is cut up"):
            pairs(make(tmp_path), None, Vocabulary(kinds=("tiktoken",)))


class TestDamaged:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (
                "IQ== 0\n!!! 1\n",
                r"tiktoken\.model:2: says '!!! 1' \(expected: bytes in base64, a space and the rank\)",
            ),
            ("IQ== 0\nIg==\n", r"model:2: says 'Ig=='"),
            ("IQ== 0\nIg== one\n", "says 'Ig== one'"),
            ("IQ== 0\nIg== -1\n", "says 'Ig== -1'"),
            ("IQ== 0\nIg== 1 2\n", "says 'Ig== 1 2'"),
            ("IQ== 0\nIg== ²\n", "says"),
            ("IQ== " + "1" * 5000 + "\n", "says 'IQ== 111"),
            ("QUFB" * 700 + " 0\n", "says 'QUFB"),  # a token of 2100 bytes
            ("IQ== 0\n\nIQ== 1\n", r"model:3: has the bytes IQ== twice"),
            ("IQ== 0\nIg== 0\n", r"tiktoken\.model: gives the rank 0 twice"),
            ("IQ== 0\nIg== 9\n", r"has the rank 9, but the embedding has 3 rows"),
        ],
    )
    def test_each_is_told(self, text: str, said: str, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=said):
            pairs(make(tmp_path, text), 3)

    def test_a_special_token_in_place_of_bytes(self, tmp_path: Path) -> None:
        make(tmp_path, added_tokens_decoder={"97": {"content": "[EOS]"}})
        with pytest.raises(
            ModelError, match=r"tokenizer_config\.json: gives '\[EOS\]' the id 97, which is the rank"
        ):
            pairs(tmp_path)

    def test_a_special_token_in_place_of_the_first(self, tmp_path: Path) -> None:
        make(tmp_path, added_tokens_decoder={"0": {"content": "[EOS]"}})
        with pytest.raises(ModelError, match="the id 0, which is the rank"):
            pairs(tmp_path)

    def test_none(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"has no tiktoken\.model or \*\.tiktoken"):
            pairs(tmp_path)


def merged(ranks: dict[bytes, int], token: bytes, limit: int) -> list[bytes]:
    """tiktoken's own way, written out: the neighbours of the lowest rank become one, over and over."""
    parts = [bytes([byte]) for byte in token]
    while True:
        found = [(ranks.get(left + right, limit), at) for at, (left, right) in enumerate(pairwise(parts))]
        if not found or min(found)[0] >= limit:
            return parts
        at = min(found)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


@given(st.lists(st.text("ab", min_size=2, max_size=6), max_size=25, unique=True))
def test_merges(words: list[str]) -> None:
    tokens = [b"a", b"b", *(word.encode() for word in words)]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    steps = [merged(ranks, token, rank) for token, rank in ranks.items()]
    expected = [" ".join(map(shown, step)) for step in steps if len(step) == 2]
    assert list(merges_of(ranks)) == expected


@pytest.mark.slow
def test_a_large_vocabulary_is_quick() -> None:
    words = [f" word{number}".encode() for number in range(10_000, 100_000)]
    starts = [b" w", b"or", b" wor", b" word", *(f"{number}".encode() for number in range(10, 100))]
    ranks = {token: rank for rank, token in enumerate(dict.fromkeys([*BYTES, *starts, *words]))}
    start = time.process_time()
    list(merges_of(ranks))
    assert time.process_time() - start < 6  # 1 s; far more on a busy machine
