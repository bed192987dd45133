"""What a text becomes in the worker: chunks, the positions of them that count, and the documents that they are of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import Text, in_process
from quantrecipe.evaluate.compact import compact
from quantrecipe.evaluate.in_process import (
    FEWEST_DOCUMENTS,
    Settings,
    cut,
    require_vocabulary,
    run_model,
    run_reference,
    token_starts,
)
from quantrecipe.evaluate.reference import Reference, ScoredText, read_reference, write_reference

N_CTX = 16  # positions 8 … 14 are scored: they predict tokens 9 … 15


class Words:
    """A model whose tokens are words, each with the blanks before it, and <marks>; `first` begins every text."""

    def __init__(self, *, first: str = "<s>", blank: str = "") -> None:
        self.path = Path("model.gguf")
        self.words: list[str] = [first] if first else []
        self.first, self.blank = first, blank

    @property
    def first_token(self) -> int | None:
        return 0 if self.first else None

    def tokenize(self, text: bytes, *, special: bool = False) -> NDArray[np.int32]:
        assert special
        said = re.findall(r"<\w+>\s*|\s*[^\s<]+|\s+$", self.blank + text.decode())
        for word in said:
            if word not in self.words:
                self.words.append(word)
        begun = [self.first] if self.first else []
        return np.array([self.words.index(word) for word in begun + said], np.int32)

    def pieces(self, tokens: NDArray[np.int32]) -> list[bytes]:
        """Marks have taken in the blanks behind them, which their pieces don't have."""
        said = [self.words[token] for token in tokens.tolist()]
        return [(word.rstrip() if word.startswith("<") else word).encode() for word in said]


def engine(**more: str) -> LanguageModel:
    return cast(LanguageModel, Words(**more))


def starts(text: str, **more: str) -> list[int]:
    model = engine(**more)
    its = Text(name="t", data=text.encode(), special=True)
    return token_starts(model, its, model.tokenize(its.data, special=True)).tolist()


@pytest.mark.parametrize(
    ("text", "more", "expected"),
    [
        ("ab c  de", {}, [0, 0, 2, 4]),
        ("ab c", {"first": ""}, [0, 2]),
        ("<s>ab", {}, [0, 0, 3]),  # the first of both is the vocabulary's own
        ("ab c", {"blank": " "}, [0, 0, 2]),  # SentencePiece begins with a blank that the text hasn't
        ("a<m>\n b", {}, [0, 0, 1, 6]),
        ("größe ä", {}, [0, 0, 7]),
    ],
)
def test_where_tokens_begin(text: str, more: dict[str, str], expected: list[int]) -> None:
    assert starts(text, **more) == expected


def test_tokens_that_aren_t_the_text() -> None:
    model = Words()
    text = Text(name="chats", data=b"Ab c", special=True)
    tokens = model.tokenize(b"ab c", special=True)
    with pytest.raises(EvaluationError, match=r"model\.gguf: the tokens of chats don't add up to it"):
        token_starts(cast(LanguageModel, model), text, tokens)


def chat(turns: int, words: int) -> Text:
    """Questions and answers of so many words; the answers count."""
    data, answers, documents = "", [], []
    for _ in range(turns):
        documents.append(len(data))
        data += " q" * words
        answers.append((len(data), len(data) + 2 * words))
        data += " a" * words
    return Text(
        name="chat", data=data.encode(), special=True, answers=tuple(answers), documents=tuple(documents)
    )


def test_answers_alone_count() -> None:
    model, text = Words(), chat(20, 6)
    found = cut(cast(LanguageModel, model), text, N_CTX, None)
    answer = model.words.index(" a")
    assert len(found.tokens) == (1 + 20 * 12) // N_CTX
    assert np.array_equal(found.counted, found.tokens[:, 9:] == answer)
    assert found.counted.any()
    assert not found.counted.all()


def test_a_chunk_without_an_answer_isn_t_run() -> None:
    text = Text(name="t", data=b" w" * 159, special=True, answers=((60, 70), (220, 222)))
    found = cut(engine(), text, N_CTX, None)
    # The token at place n begins at byte 2 (n - 1). Bytes 60 … 69 are places 31 … 35: one of them is scored.
    assert found.counted.sum(axis=1).tolist() == [1, 1]
    assert cut(engine(), text, N_CTX, 1).counted.sum() == 1


def test_chunks_may_be_spread_over_the_text() -> None:
    text = Text(name="t", data=b"".join(b" %d" % n for n in range(10 * N_CTX)), special=True)
    model = cast(LanguageModel, Words())
    every = cut(model, text, N_CTX, None)
    assert len(every.tokens) == 10
    for most, chunks in ((3, [0, 3, 6]), (10, list(range(10))), (99, list(range(10)))):
        assert np.array_equal(cut(model, text, N_CTX, most, spread=True).tokens, every.tokens[chunks])
    assert np.array_equal(cut(model, text, N_CTX, 3).tokens, every.tokens[:3])


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("most", [1, 3, 40, 10_000])
def test_the_first_chunks_of_a_long_text_need_no_more_of_it(
    answers: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where many chunks have no answer, so that more of the text is needed than it seems."""
    monkeypatch.setattr("quantrecipe.engine.first_tokens._SMALL", 100)
    monkeypatch.setattr("quantrecipe.engine.first_tokens._MARGIN", 8)
    data = b"".join(b" w%d" % (n % 10) + (b"\n" if n % 5 == 4 else b"") for n in range(30_000))
    spans = tuple((place, place + 9) for place in range(40, len(data), 700)) if answers else ()
    text = Text(name="t", data=data, special=True, answers=spans)
    every = cut(engine(), text, N_CTX, None)
    model, lengths = Words(), []
    usual = model.tokenize

    def heard(part: bytes, **more: bool) -> NDArray[np.int32]:
        lengths.append(len(part))
        return usual(part, **more)

    monkeypatch.setattr(model, "tokenize", heard)
    found = cut(cast(LanguageModel, model), text, N_CTX, most)
    assert len(found.tokens) == min(most, len(every.tokens))
    assert np.array_equal(found.tokens, every.tokens[:most])
    assert np.array_equal(found.counted, every.counted[:most])
    assert np.array_equal(found.blocks, every.blocks[:most])
    assert (max(lengths) < len(data)) or most > 3


def test_where_no_answer_is_scored() -> None:
    text = Text(name="chat", data=b" w" * 159, special=True, answers=((4, 8),))
    with pytest.raises(
        EvaluationError, match="chat has no answer in the second half of any of its 10 chunks"
    ):
        cut(engine(), text, N_CTX, None)


def test_plain_text_counts_everywhere() -> None:
    found = cut(engine(), Text(name="t", data=b" w" * 63, special=True), N_CTX, None)
    assert found.counted.shape == (4, 7)
    assert found.counted.all()
    assert found.blocks.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("documents", [FEWEST_DOCUMENTS, FEWEST_DOCUMENTS - 1])
def test_many_documents_are_blocks(documents: int) -> None:
    """Each has two chunks and a bit."""
    length = 2 * (2 * N_CTX + 3)
    starts = tuple(length * number for number in range(documents))
    text = Text(name="t", data=b" w" * (length // 2 * documents), special=True, documents=starts)
    found = cut(engine(first=""), text, N_CTX, None)
    if documents < FEWEST_DOCUMENTS:
        assert found.blocks.tolist() == list(range(len(found.tokens)))
    else:
        assert found.blocks[:5].tolist() == [0, 0, 1, 1, 2]
        assert found.blocks[-1] == documents - 1


def test_a_text_that_is_too_short() -> None:
    with pytest.raises(EvaluationError, match="t has 4 tokens, and a chunk takes 16"):
        cut(engine(), Text(name="t", data=b"a b c", special=True), N_CTX, None)


def test_another_vocabulary() -> None:
    class Other:
        path, n_vocab = Path("q.gguf"), 5

        def vocabulary(self, tokens: NDArray[np.int32]) -> str:
            return "theirs"

    model, tokens = cast(LanguageModel, Other()), np.zeros(3, np.int32)
    require_vocabulary(model, 5, "theirs", tokens)
    with pytest.raises(EvaluationError, match=r"q\.gguf: its vocabulary has 5 tokens, the reference's 6"):
        require_vocabulary(model, 6, "theirs", tokens)
    with pytest.raises(EvaluationError, match="mean something else"):
        require_vocabulary(model, 5, "ours", tokens)


class Speaking:
    """A model whose logits depend on the chunk; `sure` says how much."""

    path, n_vocab, threads = Path("m.gguf"), 9, 1

    def __init__(self, sure: float) -> None:
        self.sure = sure

    def vocabulary(self, tokens: NDArray[np.int32]) -> str:
        return ""

    def logits(self, chunks: NDArray[np.int32]) -> Iterator[NDArray[np.float32]]:
        for chunk in chunks:
            rng = np.random.default_rng(chunk.tolist())
            yield (self.sure * rng.standard_normal((7, 9))).astype(np.float32)


def test_each_second_chunk_is_held_against_its_own_targets(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 9, (5, N_CTX)).astype(np.int32)
    reference = Reference(
        path=tmp_path / "r",
        model="m.gguf",
        key="",
        n_ctx=N_CTX,
        n_vocab=9,
        vocabulary="",
        tail=0.0,
        texts=(ScoredText(name="t", digest="", chunks=5),),
        tokens=tokens,
    )
    said = Speaking(1.0).logits(tokens)
    rows = [compact(logits, targets) for logits, targets in zip(said, reference.targets, strict=True)]
    write_reference(reference, rows)
    told: list[tuple[int, int]] = []
    model = cast(LanguageModel, Speaking(2.0))
    whole = run_model(model, reference.path, tell=told.append).stacked().reshape(4, 5, 7)
    half = run_model(model, reference.path, 2, tell=told.append).stacked().reshape(4, 3, 7)
    assert np.array_equal(half, whole[:, ::2])
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5), (1, 3), (2, 3), (3, 3)]


LONG = 2500
"""Tokens of a chunk whose scored half takes five records."""


class SpeakingAtLength(Speaking):
    """The same for long chunks, in `pieces` as LanguageModel gives what is too large for one array, or whole."""

    def __init__(self, sure: float, *, pieces: bool) -> None:
        super().__init__(sure)
        self.in_pieces = pieces

    def logits(self, chunks: NDArray[np.int32], **_: int) -> Iterator[NDArray[np.float32]]:
        for chunk in chunks:
            rng = np.random.default_rng(chunk[:8].tolist())
            said = (self.sure * rng.standard_normal((1249, 9))).astype(np.float32)
            yield from np.split(said, [512, 1024]) if self.in_pieces else [said]

    def tokenize(self, text: bytes, *, special: bool = False) -> NDArray[np.int32]:
        return np.frombuffer(text, np.uint8).astype(np.int32) % 9


@pytest.mark.parametrize("answers", [(), ((1400, 1450), (2450, 4000))], ids=["all", "answers"])
def test_long_chunks_are_read_and_written_in_parts(
    tmp_path: Path, answers: tuple[tuple[int, int], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole or in pieces, a chunk gives the same bytes and the same figures; parts in which nothing counts, too."""
    data = np.random.default_rng(1).integers(65, 91, 2 * LONG).astype(np.uint8).tobytes()
    text = Text(name="t", data=data, answers=answers)
    monkeypatch.setattr(in_process, "token_starts", lambda engine, text, tokens: np.arange(len(tokens)))
    settings = Settings(n_ctx=LONG, chunks=None, tail=0.0, noise_chunks=1, key="")
    found = []
    for pieces in (False, True):
        told: list[tuple[int, int]] = []
        out = tmp_path / f"{pieces}.reference"
        run_reference(
            cast(LanguageModel, SpeakingAtLength(1.0, pieces=pieces)), [text], out, settings, tell=told.append
        )
        assert told == [(1, 3), (2, 3), (3, 3)]
        other = cast(LanguageModel, SpeakingAtLength(2.0, pieces=not pieces))
        found.append(run_model(other, out, tell=lambda done: None).stacked())
    one, two = (tmp_path / f"{pieces}.reference" for pieces in (False, True))
    assert one.read_bytes() == two.read_bytes()
    assert np.array_equal(*found)
    reference = read_reference(one)
    assert [part.stop for part in reference.parts] == [256, 512, 768, 1024, 1249]
    assert len(list(reference.records())) == 10
    assert found[0].shape[1] == reference.positions < 2 * 1249 + 1
    assert reference.noise is not None and reference.noise.mean < 1e-6  # the model says the same twice


def test_a_reference_with_a_record_for_each_chunk_is_still_read(tmp_path: Path) -> None:
    """As the second version of the file had it, whatever the context."""
    tokens = np.random.default_rng(0).integers(0, 9, (2, LONG)).astype(np.int32)
    reference = Reference(
        path=tmp_path / "r",
        model="m.gguf",
        key="",
        n_ctx=LONG,
        n_vocab=9,
        vocabulary="",
        tail=0.0,
        texts=(ScoredText(name="t", digest="", chunks=2),),
        tokens=tokens,
        version=2,
    )
    said = SpeakingAtLength(1.0, pieces=False).logits(tokens)
    write_reference(
        reference, [compact(logits, targets) for logits, targets in zip(said, reference.targets, strict=True)]
    )
    data = reference.path.read_bytes()
    reference.path.write_bytes(data.replace(b"reference 3", b"reference 2", 1))
    assert read_reference(reference.path).parts == (slice(0, 1249),)
    whole = cast(LanguageModel, SpeakingAtLength(1.0, pieces=False))
    assert np.abs(run_model(whole, reference.path, tell=lambda done: None).divergence).max() < 1e-5
