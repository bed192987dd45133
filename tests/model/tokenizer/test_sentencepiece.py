"""tokenizer.model is read without trust. That its content is right, tests/model/test_huggingface.py compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.piece_files import BPE, IDENTITY, PIECES, message, piece

from quantrecipe.errors import ModelError
from quantrecipe.model.tokenizer import tokenizer_pairs
from quantrecipe.model.tokenizer.kinds import Vocabulary, read_files
from quantrecipe.model.tokenizer.piece_file import read_piece_file
from quantrecipe.model.tokenizer.sentencepiece import Pieces, overlaid

RECORDED = Path(__file__).parents[2] / "data/huggingface/llama-sentencepiece/tokenizer.model"


def make(folder: Path, raw: bytes = PIECES + BPE + IDENTITY, **files: Any) -> Path:
    (folder / "tokenizer.model").write_bytes(raw)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def pieces(folder: Path, size: int | None = None, **vocabulary: Any) -> Pieces:
    files = read_files(folder, size, {}, None, Vocabulary(**vocabulary))
    return overlaid(files, read_piece_file(folder / "tokenizer.model"))


def test_pieces_and_padding(tmp_path: Path) -> None:
    made = pieces(make(tmp_path), 6)
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
    made = pieces(make(tmp_path, added_tokens={"<new>": 5, "<x>": 6}, tokenizer_config=config), 8)
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


def test_byte_level_bpe_comes_before_it(tmp_path: Path) -> None:
    """Such a tokenizer.json wasn't made from tokenizer.model, which some folders have for another program."""
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    cut = {"type": "ByteLevel", "add_prefix_space": False}
    make(tmp_path, tokenizer={"model": model, "pre_tokenizer": cut})
    assert tokenizer_pairs(tmp_path, None, {})["tokenizer.ggml.model"].decode() == "gpt2"
    make(tmp_path, tokenizer={"model": {"type": "Unigram", "vocab": []}})
    assert tokenizer_pairs(tmp_path, None, {})["tokenizer.ggml.model"].decode() == "llama"


def test_an_id_in_place_of_another_has_to_have_a_row(tmp_path: Path) -> None:
    added = {"4": {"content": "<in>"}, "5": {"content": "<out>"}}
    make(tmp_path, tokenizer_config={"added_tokens_decoder": added})
    over = Vocabulary(special_over=(("eos", "<out>"), ("bos", "<in>")))
    pairs = tokenizer_pairs(tmp_path, 5, {"eos_token_id": 1}, vocabulary=over)
    ids = [pairs[f"tokenizer.ggml.{kind}_token_id"].decode() for kind in ("eos", "bos")]
    assert ids == [1, 4]


@pytest.mark.parametrize(
    "raw", [PIECES + BPE, PIECES + BPE + message(3, message(2, b"map") + bytes([4 << 3, 0]))]
)
def test_normalizers_are_refused_unless_overridden(raw: bytes, tmp_path: Path) -> None:
    make(tmp_path, raw if raw != PIECES + BPE else raw + message(3, message(1, b"identity")))
    with pytest.raises(ModelError, match=r"tokenizer\.model: normalizes text"):
        tokenizer_pairs(tmp_path, None, {})
    assert tokenizer_pairs(tmp_path, None, {}, pre="default")["tokenizer.ggml.pre"].decode() == "default"


def test_unigram_is_refused(tmp_path: Path) -> None:
    make(tmp_path, PIECES + message(2, bytes([3 << 3, 1])) + IDENTITY)
    with pytest.raises(ModelError, match=r"is no BPE vocabulary.*; if .* say: --pre default"):
        tokenizer_pairs(tmp_path, None, {})
    for arguments in ({"pre": "default"}, {"vocabulary": Vocabulary(lenient=True)}):
        assert len(tokenizer_pairs(tmp_path, None, {}, **arguments)["tokenizer.ggml.tokens"]) == 5


def test_a_field_that_ends_within_its_bytes(tmp_path: Path) -> None:
    """A file that was cut short is refused, though all that is read of it is there."""
    cut = message(15, b"a field that nobody reads")[:-1]
    with pytest.raises(ModelError, match="is not a SentencePiece model, or damaged"):
        pieces(make(tmp_path, PIECES + cut))


@pytest.mark.parametrize("added", [{"x": -1}, {"x": "1"}, {"x": True}, {"x": None}])
def test_nonsense_among_added_tokens(added: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"added_tokens\.json"):
        pieces(make(tmp_path, added_tokens=added))


@given(
    raw=st.binary(max_size=200)
    | st.integers(0, RECORDED.stat().st_size).map(lambda at: RECORDED.read_bytes()[:at])
)
def test_anything_is_read_or_refused(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "tokenizer.model").write_bytes(raw)
    try:
        pieces(folder, 8)
    except ModelError as error:
        assert "tokenizer.model" in str(error)


def test_pieces_beyond_the_rows_are_left_out(tmp_path: Path) -> None:
    assert pieces(make(tmp_path, added_tokens={"<far>": 3}), 3).tokens == ["<unk>", "<s>", "<0x00>"]


class TestAddedTokens:
    """Each way of taking them, as one of the converter's methods does."""

    CONFIG: dict[str, Any] = {  # noqa: RUF012 - never changed
        "unk_token": "<unk>",
        "added_tokens_decoder": {
            "0": {"content": "<unk>", "special": True},
            "1": {"content": "<s>", "special": True},
            "3": {"content": "<|▁x|>", "special": False},
            "4": {"content": "▁y"},
        },
    }
    JSON: dict[str, Any] = {"added_tokens": [{"id": 2, "content": "<z>", "special": True}]}  # noqa: RUF012 - the same

    @pytest.mark.parametrize(
        ("added", "tokens", "types", "scores"),
        [
            ("usual", ["<0x00>", "<|▁x|>", " y"], [3, 3, 6, 3, 4], [-1000, -1000, 0, -1000, -1000]),
            ("flags", ["<z>", "<|▁x|>", "▁y"], [3, 3, 3, 4, 4], [-1000] * 5),
            ("internlm2", ["<z>", "<|▁x|>", "▁y"], [3, 3, 3, 4, 4], [-1000] * 5),
            ("scores", ["<0x00>", "<|▁x|>", "▁y"], [2, 3, 6, 4, 4], [0, 0, 0, -10000, -10000]),
        ],
    )
    def test_ways(self, added: str, tokens: Any, types: Any, scores: Any, tmp_path: Path) -> None:
        made = pieces(make(tmp_path, tokenizer_config=self.CONFIG, tokenizer=self.JSON), 5, added=added)
        assert made.tokens == ["<unk>", "<s>", *tokens]
        assert (made.types, made.scores) == (types, scores)

    def test_arctic_has_no_added_tokens_json(self, tmp_path: Path) -> None:
        make(tmp_path, added_tokens={"<new>": 4})
        assert (pieces(tmp_path, added="scores").tokens[4], pieces(tmp_path).tokens[4]) == ("<u>", "<new>")

    def test_internlm2_has_pieces_of_its_own(self, tmp_path: Path) -> None:
        raw = piece("\0", -1) + piece("[UNUSED_TOKEN_1]", -2) + BPE + IDENTITY
        made = pieces(make(tmp_path, raw), added="internlm2")
        assert (made.tokens, made.types) == (["🐉", "[UNUSED_TOKEN_1]"], [1, 5])
        assert pieces(tmp_path).types == [1, 1]

    @pytest.mark.parametrize("entry", [{"content": 3}, {}, 3, None])
    @pytest.mark.parametrize("number", ["5", "-5", "x"])
    def test_nonsense(self, entry: Any, number: str, tmp_path: Path) -> None:
        make(tmp_path, tokenizer_config={"added_tokens_decoder": {number: entry}})
        with pytest.raises(ModelError, match=r"tokenizer_config\.json: its added tokens are not understood"):
            pieces(tmp_path)

    @pytest.mark.parametrize("entry", [{"content": 3, "id": 1}, {"content": "x"}, {"content": "x", "id": -1}])
    def test_nonsense_in_tokenizer_json(self, entry: Any, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"tokenizer\.json: its added tokens are not understood"):
            pieces(make(tmp_path, tokenizer={"added_tokens": [entry]}), added="flags")


class TestSpacePrefix:
    KEY = "tokenizer.ggml.add_space_prefix"

    @pytest.mark.parametrize(
        ("source", "said", "place"),
        [
            ("tokenizer_config first", True, 0),
            ("tokenizer_config first", None, None),
            ("tokenizer_config", True, -1),
            ("tokenizer_config", None, None),
            ("tokenizer.model", True, 5),
            (True, False, -1),
            (None, True, None),
        ],
    )
    def test_sources(self, source: Any, said: bool | None, place: int | None, tmp_path: Path) -> None:
        """`place` is where the converter writes the key, None where it doesn't."""
        make(tmp_path, tokenizer_config={"add_prefix_space": said, "add_bos_token": True})
        pairs = tokenizer_pairs(tmp_path, None, {}, vocabulary=Vocabulary(space_prefix=source))
        assert (self.KEY in pairs) == (place is not None)
        if place is not None:
            assert list(pairs)[place] == self.KEY
            assert pairs[self.KEY].decode() is True

    def test_always_none(self, tmp_path: Path) -> None:
        pairs = tokenizer_pairs(make(tmp_path), None, {}, vocabulary=Vocabulary(space_prefix=False))
        assert pairs[self.KEY].decode() is False

    def test_the_model_says_no(self, tmp_path: Path) -> None:
        make(tmp_path, PIECES + BPE + message(3, bytes([3 << 3, 0, 4 << 3, 0])))
        pairs = tokenizer_pairs(tmp_path, None, {}, vocabulary=Vocabulary(space_prefix="tokenizer.model"))
        assert pairs[self.KEY].decode() is False


def test_a_piece_that_is_no_utf8(tmp_path: Path) -> None:
    make(tmp_path, PIECES + message(1, message(1, b"\xff\xfe")) + BPE)
    with pytest.raises(
        ModelError, match=r"tokenizer\.model: has a piece that is not UTF-8 \(number 5\): b'\\xff\\xfe'"
    ):
        tokenizer_pairs(tmp_path, None, {})
