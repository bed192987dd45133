"""llama.cpp, given our vocabulary, cuts text into the same ids as Hugging Face tokenizers."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

llama_cpp = pytest.importorskip("llama_cpp")

from support.strings import training_text, varied  # noqa: E402
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers  # noqa: E402

from quantrecipe.engine import first_tokens as first  # noqa: E402
from quantrecipe.gguf.write_header import encode_header  # noqa: E402
from quantrecipe.model.pairs import text  # noqa: E402
from quantrecipe.model.tokenizer import tokenizer_pairs  # noqa: E402
from quantrecipe.model.tokenizer.piece_file import read_piece_file  # noqa: E402
from quantrecipe.model.tokenizer.pre_tokenizer import PreTokenizer, known_pre_tokenizers  # noqa: E402

pytestmark = pytest.mark.llama

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-code"
SPECIALS = ["<|end|>", "<tool>"]
MANY, FEW, SAMPLE = 100_000, 20_000, 5_000
COUNTS = dict.fromkeys(("gpt-2", "llama-bpe", "dbrx", "qwen2"), MANY) | dict.fromkeys(
    ("qwen35", "seed-coder", "minicpm5", "smollm", "deepseek-coder", "deepseek-v3", "tekken", "gpt-4o"), FEW
)
# llama.cpp's own expressions for these differ: docs/tokenizers.md
APPROXIMATE = {"tekken", "gpt-4o", "granite-embed-multi-97m", "youtu", "deepseek-llm", "falcon", "kimi-k2"}
OTHERWISE = {"tiny_aya", "superbpe"}


def retrain(rules: PreTokenizer) -> Tokenizer:
    """A new vocabulary under known rules."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=rules.ignore_merges))
    splits = [pre_tokenizers.Split(Regex(split), "isolated") for split in rules.splits]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    if rules.form is not None:
        document = json.loads(tokenizer.to_str())
        tokenizer = Tokenizer.from_str(json.dumps(document | {"pre_tokenizer": rules.form}))
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    return tokenizer


@contextmanager
def vocabulary(folder: Path) -> Iterator[llama_cpp.llama_vocab_p]:
    """llama.cpp's vocabulary of a folder that has a tokenizer.json."""
    path = folder / "vocabulary.gguf"
    pairs = {"general.architecture": text("llama"), **tokenizer_pairs(folder, None, {})}
    path.write_bytes(encode_header(pairs, []))
    quiet = llama_cpp.llama_log_callback(lambda level, message, data: None)
    llama_cpp.llama_log_set(quiet, None)
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    assert model, "llama.cpp doesn't load the vocabulary"
    try:
        yield llama_cpp.llama_model_get_vocab(model)
    finally:
        llama_cpp.llama_model_free(model)


def differing(tokenizer: Tokenizer, folder: Path, strings: list[str]) -> list[str]:
    """The strings for which the ids aren't the same."""
    expected = [encoding.ids for encoding in tokenizer.encode_batch(strings, add_special_tokens=False)]
    buffer = (llama_cpp.llama_token * 4096)()
    wrong = []
    with vocabulary(folder) as vocab:
        for string, ids in zip(strings, expected, strict=True):
            raw = string.encode()
            count = llama_cpp.llama_tokenize(vocab, raw, len(raw), buffer, len(buffer), False, True)
            if buffer[:count] != ids:
                wrong.append(string)
    return wrong


def with_specials(strings: list[str]) -> list[str]:
    """Every tenth string with the text of a special token inside."""
    return [
        string if number % 10 else f"{string[:3]}{SPECIALS[number // 10 % 2]}{string[3:]}"
        for number, string in enumerate(strings)
    ]


def test_the_example(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((EXAMPLE / name).read_bytes())
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert differing(tokenizer, tmp_path, varied(MANY)) == []


@pytest.mark.parametrize("rules", known_pre_tokenizers(), ids=lambda rules: rules.name)
def test_retrained(rules: PreTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ids, and the beginning of a long text has those of the whole."""
    tokenizer = retrain(rules)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    strings = with_specials(varied(COUNTS.get(rules.name, SAMPLE)))
    if rules.name in APPROXIMATE:
        strings = [string for string in strings if all(_plain(char) for char in string)]
    wrong = differing(tokenizer, tmp_path, strings)
    if rules.name in OTHERWISE:  # numbers by what follows them, which llama.cpp cuts in other places
        assert 0 < len(wrong) < len(strings) / 25
    else:
        assert wrong == []
    compare_first(tmp_path, monkeypatch)


def test_nfc_makes_no_difference_to_text_in_nfc(tmp_path: Path) -> None:
    tokenizer = retrain(next(rules for rules in known_pre_tokenizers() if rules.name == "qwen2"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    strings = [unicodedata.normalize("NFC", string) for string in varied(FEW)]
    assert differing(tokenizer, tmp_path, strings) == []
    assert differing(tokenizer, tmp_path, ["e\u0301"]) == ["e\u0301"]  # what docs/tokenizers.md says of it


def _plain(char: str) -> bool:
    """True for what llama.cpp's stand-ins for letter case are right about."""
    return not unicodedata.category(char).startswith("M") and (char.isascii() or not char.isalpha())


def test_sentencepiece(tmp_path: Path) -> None:
    """Against the tokenizer.json that Hugging Face makes of such a vocabulary: merges follow from scores."""
    source = Path(__file__).parents[1] / "data/huggingface/llama-sentencepiece/tokenizer.model"
    (tmp_path / "tokenizer.model").write_bytes(source.read_bytes())
    pieces = read_piece_file(tmp_path / "tokenizer.model").pieces
    vocab = {token: number for number, (token, _, _) in enumerate(pieces)}
    score = {token: score for token, score, _ in pieces}
    merges = [
        (token[:cut], token[cut:])
        for token in sorted(vocab, key=lambda token: (-score[token], vocab[token]))
        for cut in sorted(
            range(1, len(token)), key=lambda cut: (vocab.get(token[:cut], 0), vocab.get(token[cut:], 0))
        )
        if pieces[vocab[token]][2] == 1 and token[:cut] in vocab and token[cut:] in vocab
    ]
    model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    assert differing(tokenizer, tmp_path, varied(FEW)) == []


class Vocabulary:
    """What `first_tokens` asks of a model. lengths: of the texts that were cut."""

    def __init__(self, vocab: llama_cpp.llama_vocab_p) -> None:
        self.vocab, self.lengths = vocab, list[int]()

    def tokenize(self, text: bytes, *, special: bool = False) -> NDArray[np.int32]:
        self.lengths.append(len(text))
        buffer = (llama_cpp.llama_token * (len(text) + 8))()
        count = llama_cpp.llama_tokenize(self.vocab, text, len(text), buffer, len(buffer), True, special)
        return np.array(buffer[:count], np.int32)


def long_text() -> bytes:
    """Lines of all kinds, and runs without a blank that are longer than the margin of some vocabularies."""
    strings = with_specials(varied(SAMPLE))
    runs = [" " * 3000, "ab" * 3000, "7" * 2000, "漢字" * 1500, "\n" * 2000]
    lines = [line for number, run in enumerate(runs) for line in [*strings[number::5], run]]
    return "\n".join(lines).encode()


def compare_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first, "_SMALL", 1000)
    monkeypatch.setattr(first, "_MARGIN", 512)
    data = long_text()
    with vocabulary(folder) as vocab:
        whole = Vocabulary(vocab).tokenize(data, special=True)
        asked = Vocabulary(vocab)
        for most in (1, 777, 5000, len(whole) // 3, len(whole) // 2):
            assert np.array_equal(first.first_tokens(asked, data, most, special=True), whole[:most]), most
        assert min(asked.lengths) < len(data) / 2


def test_the_beginning_of_a_text_in_sentencepiece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(__file__).parents[1] / "data/huggingface/llama-sentencepiece/tokenizer.model"
    (tmp_path / "tokenizer.model").write_bytes(source.read_bytes())
    compare_first(tmp_path, monkeypatch)
