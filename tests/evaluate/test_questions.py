"""Questions with answers that can be checked: how they are read, put, and judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.engine import Session
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate.questions import (
    Asked,
    Question,
    ask,
    is_right,
    question_figures,
    questions_key,
    read_questions,
)

Tokens = NDArray[np.int32]

CHOICES = {"question": "2 + 2 = ?", "choices": ["3", "4", "5"], "answer": "B"}


def write(folder: Path, *lines: object) -> Path:
    path = folder / "questions.jsonl"
    path.write_text(
        "\n".join(it if isinstance(it, str) else json.dumps(it) for it in lines), encoding="utf-8"
    )
    return path


def test_the_three_kinds(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        CHOICES | {"subject": "sums"},
        "",
        {"prompt": "The capital of France is", "answer": ["Paris", "the city of  Paris."]},
        {"prompt": "Write 42 in hex: ", "pattern": "0x2[aA]"},
    )
    choices, answer, pattern = read_questions(path)
    assert choices == Question(
        line=1,
        prompt="2 + 2 = ?\nA. 3\nB. 4\nC. 5\nAnswer:",
        kind="choices",
        choices=3,
        right=1,
    )
    assert (answer.line, answer.kind, answer.answers) == (3, "answer", ("Paris", "the city of Paris"))
    assert (pattern.kind, pattern.pattern) == ("pattern", "0x2[aA]")


@pytest.mark.parametrize(
    ("answer", "right"), [(0, 0), (2, 2), ("A", 0), ("c", 2), (" B ", 1), ("4", 1), ("5", 2)], ids=str
)
def test_the_right_choice_by_number_letter_or_text(answer: object, right: int, tmp_path: Path) -> None:
    (found,) = read_questions(write(tmp_path, CHOICES | {"answer": answer}))
    assert found.right == right


def test_the_text_of_a_choice_goes_before_a_letter(tmp_path: Path) -> None:
    grades = {"question": "Which grade is lower?", "choices": ["B", "A"], "answer": "A"}
    assert read_questions(write(tmp_path, grades))[0].right == 1


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("[1]\n[2]", "not an object"),
        ("{", "JSON"),
        ({"question": "x"}, "has neither choices nor an answer nor a pattern"),
        ({"prompt": "x", "answer": "y", "pattern": "z"}, "has both an answer and a pattern"),
        ({"answer": "y"}, "has no prompt"),
        ({"prompt": "", "answer": "y"}, "has no prompt"),
        ({"prompt": "x", "answer": ""}, "isn't a text, nor a list of texts"),
        ({"prompt": "x", "answer": []}, "isn't a text, nor a list of texts"),
        ({"prompt": "x", "answer": 4}, "isn't a text, nor a list of texts"),
        ({"prompt": "x", "pattern": "("}, "is no regular expression"),
        ({"prompt": "x", "pattern": 3}, "the pattern isn't a text"),
        (CHOICES | {"answer": 3}, "the answer 3 is none of the choices"),
        (CHOICES | {"answer": True}, "the answer true is none of the choices"),
        (CHOICES | {"answer": "D"}, "is none of the choices"),
        ({"question": "x", "choices": ["a", "b"]}, "has no answer"),
        (CHOICES | {"question": " "}, "has choices, and no question"),
        (CHOICES | {"choices": "abc"}, "the choices aren't a list of texts"),
        (CHOICES | {"choices": ["4"]}, "has 1 choices"),
        (CHOICES | {"choices": ["4", "4"]}, "has a choice twice"),
        ({"messages": [{"role": "user", "content": "Hi"}], "answer": "x"}, "no chat template"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_with_its_line(line: object, what: str, tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": "x", "answer": "y"}, line)
    with pytest.raises(EvaluationError) as error:
        read_questions(path)
    assert any(what in problem.what for problem in error.value.problems), error.value
    assert {(problem.file, problem.line) for problem in error.value.problems} <= {(path, 2), (path, 3)}


def test_all_of_it_at_once_and_files_without_any(tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": "x"}, CHOICES, {"pattern": "x"})
    with pytest.raises(EvaluationError) as error:
        read_questions(path)
    assert [problem.line for problem in error.value.problems] == [1, 3]
    with pytest.raises(EvaluationError, match="there are no questions in it"):
        read_questions(write(tmp_path, ""))
    with pytest.raises(EvaluationError, match="can't be read"):
        read_questions(tmp_path / "gone.jsonl")


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("Paris", True),
        (" Paris.\nIt is", True),
        ("\n\n Paris ", True),
        ("Paris, of course", False),
        ("paris", False),
        ("", False),
    ],
)
def test_an_answer_is_the_first_line(said: str, right: bool) -> None:
    assert is_right(Question(line=1, prompt="", kind="answer", answers=("Paris", "Lutetia")), said) is right


@pytest.mark.parametrize(("said", "right"), [("it is 0x2A", True), ("0x2b\n0x2a", True), ("42", False)])
def test_a_pattern_is_found_anywhere(said: str, right: bool) -> None:
    assert is_right(Question(line=1, prompt="", kind="pattern", pattern="0x2[aA]"), said) is right


class Words:
    """A model whose tokens are characters, and blanks with what follows; it likes some tokens more than others."""

    path = Path("m.gguf")

    def __init__(self, likes: str, answer: str = "Paris.", room: int = 0) -> None:
        self.known: list[str] = ["<s>"]
        self.likes, self.answer = likes, answer
        self.facts = SimpleNamespace(n_ctx=room)
        self.put: list[str] = []

    def tokenize(self, text: bytes, *, special: bool = False) -> Tokens:
        said = text.decode().replace(" ", " ")
        words: list[str] = []
        for char in said:
            if words and words[-1] == " ":
                words[-1] += char
            else:
                words.append(char)
        for word in words:
            if word not in self.known:
                self.known.append(word)
        return np.array([0, *(self.known.index(word) for word in words)], np.int32)

    def generate(
        self, prompts: Sequence[Tokens], n: int, *, choose: Callable[..., Tokens] | None = None
    ) -> Iterator[Tokens]:
        for number, prompt in enumerate(prompts):
            self.put.append("".join(self.known[token] for token in prompt[1:].tolist()))
            if choose is not None:
                logits = np.array([[word in self.likes for word in self.known]], np.float32)
                choose(logits, np.array([number], np.int32))
            yield np.array([7] * min(n, 3), np.int32)

    def pieces(self, tokens: Tokens) -> list[bytes]:
        return [self.answer.encode(), *[b"" for _ in tokens[1:]]]


class Open(Session):
    """A session in this process."""

    def __init__(self, model: Words) -> None:
        self.model = model

    def call(self, function: Any, *arguments: Any, hear: Any = None) -> Any:
        return function(self.model, *arguments, tell=hear or (lambda done: None))


QUESTIONS = (
    Question(line=1, prompt="q\nA. x\nB. y\nAnswer:", kind="choices", choices=2, right=1),
    Question(line=2, prompt="The capital is", kind="answer", answers=("Paris",)),
    Question(line=3, prompt="r\nA. x\nB. y\nC. z\nAnswer:", kind="choices", choices=3, right=0),
)


def test_the_likeliest_letter_is_the_choice() -> None:
    model, told = Words(likes=" B"), list[tuple[int, int]]()
    found = ask(Open(model), QUESTIONS, progress=lambda done, total: told.append((done, total)))
    assert found == Asked(said=("B", "Paris.", "B"), right=(True, True, False))
    assert told == [(1, 3), (2, 3), (3, 3)]
    # What is read ends before the letters' tokens, which have the blank before them.
    assert model.put == [QUESTIONS[0].prompt, QUESTIONS[2].prompt, QUESTIONS[1].prompt]


def test_a_vocabulary_that_does_not_tell_letters_apart_is_refused() -> None:
    class Blind(Words):
        def tokenize(self, text: bytes, *, special: bool = False) -> Tokens:
            return np.array([1] * 5, np.int32)

    with pytest.raises(EvaluationError, match="doesn't tell the letters") as error:
        ask(Open(Blind("")), QUESTIONS, source="q.jsonl")
    assert (str(error.value.problems[0].file), error.value.problems[0].line) == ("q.jsonl", 1)


def test_questions_that_are_too_long_are_named() -> None:
    with pytest.raises(EvaluationError) as error:
        ask(Open(Words(" A", room=100)), QUESTIONS, source="q.jsonl", most=90)
    (problem,) = error.value.problems  # of the others only a letter is asked for
    assert (problem.line, "trained with 100" in problem.what) == (2, True)


def test_the_figures_are_of_pairs() -> None:
    reference = Asked(said=("",) * 3, right=(True, True, False))
    first = Asked(said=("",) * 3, right=(True, False, False))
    ours = Asked(said=("",) * 3, right=(False, False, True))
    figures = question_figures(ours, QUESTIONS, reference, first)
    assert figures.right.value == pytest.approx(1 / 3)
    assert {kind: its.value for kind, its in figures.kinds.items()} == {"choices": 0.5, "answer": 0.0}
    assert figures.beside_reference is not None and figures.beside_first is not None
    assert (figures.beside_reference.gained, figures.beside_reference.lost) == (1, 2)
    assert (figures.beside_first.gained, figures.beside_first.lost) == (1, 1)
    alone = question_figures(reference, QUESTIONS)
    assert (alone.beside_reference, alone.beside_first) == (None, None)


def test_the_key_depends_on_what_is_asked() -> None:
    other = (*QUESTIONS[:2], Question(line=9, prompt="x", kind="pattern", pattern="y"))
    assert len({questions_key(QUESTIONS, 8), questions_key(QUESTIONS, 9), questions_key(other, 8)}) == 3
