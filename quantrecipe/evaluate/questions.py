"""Questions whose answers can be checked: what a model gets right, beside what the unquantized one does.

A file has a question on each line, as JSON:

    {"question": "2 + 2 = ?", "choices": ["3", "4"], "answer": "B"}    by likelihood: which letter comes next
    {"prompt": "The capital of France is", "answer": "Paris"}          by what is generated: its first line
    {"prompt": "Write 42 in hex: ", "pattern": "0x2[aA]"}              by a regular expression, found anywhere in it

`answer` of choices is a number from 0, a letter, or the text of a choice; of a prompt, a text or a list of them. In the
place of a prompt may stand a chat, `messages`, which the model's template writes. Other keys are left aside.

A question with choices is put as MMLU puts it: the choices as A, B, C …, then "Answer:", and the likeliest of the
letters is the model's choice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.session import RunOptions, Session, Tell
from quantrecipe.errors import EvaluationError, Problem, abridged
from quantrecipe.evaluate.answers import share
from quantrecipe.evaluate.pairs import PairedShare, paired_share
from quantrecipe.evaluate.prompts import chat_prompt
from quantrecipe.evaluate.requests import opened
from quantrecipe.evaluate.resampling import Interval
from quantrecipe.texts.chat_template import ChatTemplate
from quantrecipe.texts.json_lines import LineError, json_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tokens = NDArray[np.int32]

__all__ = [
    "FEWEST_QUESTIONS",
    "Asked",
    "Kind",
    "Question",
    "QuestionFigures",
    "ask",
    "is_right",
    "question_figures",
    "questions_key",
    "read_questions",
]

FEWEST_QUESTIONS = 100
"""With fewer, a share that is right is known to ten per cent at best."""

Kind = Literal["choices", "answer", "pattern"]

_MADE = (
    'write {"question": "…", "choices": ["…", "…"], "answer": "A"}, {"prompt": "…", "answer": "…"}, or '
    '{"prompt": "…", "pattern": "…"}'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question, and how its answer is checked.

    line:    of its file
    prompt:  what the model reads
    kind:    by likelihood among choices, by the text of an answer, or by a pattern
    choices: how many there are; right: the number of the right one
    answers: texts, each of which is right; pattern: what is to be found
    """

    line: int
    prompt: str
    kind: Kind
    choices: int = 0
    right: int = 0
    answers: tuple[str, ...] = ()
    pattern: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a model answers. said: of choices the letter, else the text; right: whether that is so"""

    said: tuple[str, ...]
    right: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionFigures:
    """A model's answers.

    right:      the share of all questions
    kinds:      of each kind of question
    beside_reference, beside_first: the same questions, as those answer them; None for themselves
    """

    questions: int
    right: Interval
    kinds: dict[str, Interval]
    beside_reference: PairedShare | None
    beside_first: PairedShare | None


def read_questions(
    path: str | Path, template: Callable[[], ChatTemplate | None] | None = None
) -> tuple[Question, ...]:
    """The questions in a file. EvaluationError for what is wrong, all of it at once, each with its line.

    template: gives what writes chats; asked if there is one
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EvaluationError(
            f"the questions can't be read ({error.strerror or error})", file=path
        ) from error
    questions: list[Question] = []
    problems: list[Problem] = []
    for line, value in json_values(data):
        try:
            if isinstance(value, LineError):
                raise value
            questions.append(_question(value, line, path, template or (lambda: None)))
        except LineError as error:
            problems.append(Problem(what=error.what, remedy=error.remedy, file=path, line=line))
    if problems:
        raise EvaluationError(abridged(problems))
    if not questions:
        raise EvaluationError("there are no questions in it", _MADE, file=path)
    return tuple(questions)


def _question(value: object, line: int, path: Path, template: Callable[[], ChatTemplate | None]) -> Question:
    if not isinstance(value, dict):
        raise LineError(f"is {type(value).__name__}, not an object", _MADE)
    if "choices" in value:
        return _of_choices(value, line)
    if ("answer" in value) == ("pattern" in value):
        both = "answer" in value
        what = (
            "has both an answer and a pattern" if both else "has neither choices nor an answer nor a pattern"
        )
        raise LineError(what, "leave one of them out" if both else _MADE)
    prompt = _prompt(value, line, path, template)
    if "pattern" in value:
        return Question(line=line, prompt=prompt, kind="pattern", pattern=_pattern(value["pattern"]))
    answers = value["answer"] if isinstance(value["answer"], list) else [value["answer"]]
    if not answers or not all(isinstance(answer, str) and answer.strip() for answer in answers):
        raise LineError("the answer isn't a text, nor a list of texts", 'write it as {"answer": "…"}')
    return Question(line=line, prompt=prompt, kind="answer", answers=tuple(map(_plain, answers)))


def _of_choices(value: dict[str, Any], line: int) -> Question:
    question, choices, answer = value.get("question"), value["choices"], value.get("answer")
    if not isinstance(question, str) or not question.strip():
        raise LineError("has choices, and no question", _MADE)
    if not isinstance(choices, list) or not all(isinstance(it, str) and it.strip() for it in choices):
        raise LineError("the choices aren't a list of texts", 'write them as {"choices": ["…", "…"]}')
    if not 2 <= len(choices) <= len(ascii_uppercase):
        raise LineError(f"has {len(choices)} choices (expected: 2 to {len(ascii_uppercase)})", "")
    if len(set(choices)) < len(choices):
        raise LineError("has a choice twice", "take one of them out")
    letters = ascii_uppercase[: len(choices)]
    lines = [f"{letter}. {choice.strip()}" for letter, choice in zip(letters, choices, strict=True)]
    return Question(
        line=line,
        prompt="\n".join([question.strip(), *lines, "Answer:"]),
        kind="choices",
        choices=len(choices),
        right=_right_choice(answer, choices, letters),
    )


def _right_choice(answer: object, choices: Sequence[str], letters: str) -> int:
    """Which choice is right: a choice of that text goes before a letter."""
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    if isinstance(answer, str) and len(answer.strip()) == 1 and answer.strip().upper() in letters:
        return letters.index(answer.strip().upper())
    said = (
        "has no answer" if answer is None else f"the answer {json.dumps(answer)[:40]} is none of the choices"
    )
    raise LineError(said, f"give a number from 0 to {len(choices) - 1}, a letter, or the text of a choice")


def _prompt(value: dict[str, Any], line: int, path: Path, template: Callable[[], ChatTemplate | None]) -> str:
    if "prompt" not in value and "messages" in value:
        found = chat_prompt({"messages": value["messages"]}, line, path, template)
        if isinstance(found, Problem):
            raise LineError(found.what, found.remedy)
        return found
    prompt = value.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise LineError("has no prompt", _MADE)
    return prompt


def _pattern(pattern: object) -> str:
    if not isinstance(pattern, str) or not pattern:
        raise LineError("the pattern isn't a text", 'write it as {"pattern": "…"}')
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        what = f"the pattern {pattern[:40]!r} is no regular expression: {error}"
        raise LineError(what, "in JSON, write each backslash twice") from error
    return pattern


def is_right(question: Question, said: str) -> bool:
    """Whether a text that was generated is right: its first line, or the pattern anywhere in it."""
    if question.kind == "pattern":
        return re.search(question.pattern, said) is not None
    first = next((line for line in said.splitlines() if line.strip()), "")
    return _plain(first) in question.answers


def _plain(text: str) -> str:
    """Without blanks and a full stop at its ends, and with one blank for several."""
    return " ".join(text.split()).removesuffix(".").rstrip()


def ask(
    model: str | Path | Session,
    questions: Sequence[Question],
    *,
    source: str | Path | None = None,
    most: int = 128,
    progress: Callable[[int, int], None] | None = None,
    **running: Unpack[RunOptions],
) -> Asked:
    """Have a GGUF answer questions, or the one that is open in a session.

    source: the questions' file, for messages
    most:   tokens of an answer that is generated
    EvaluationError where a question doesn't fit into the context that the model was trained with.
    """
    hear = None if progress is None else lambda done: progress(*done)
    with opened(model, **running) as session:
        said = session.call(_asked, list(questions), str(source or ""), most, hear=hear)
    right = tuple(
        answer == ascii_uppercase[question.right]
        if question.kind == "choices"
        else is_right(question, answer)
        for question, answer in zip(questions, said, strict=True)
    )
    return Asked(said=tuple(said), right=right)


def _asked(
    engine: LanguageModel, questions: Sequence[Question], source: str, most: int, *, tell: Tell
) -> list[str]:
    """What `ask` has the worker do: of choices the likeliest letter, else what is generated."""
    said = [""] * len(questions)
    letters = [number for number, question in enumerate(questions) if question.kind == "choices"]
    others = [number for number, question in enumerate(questions) if question.kind != "choices"]
    done = 0
    texts = {number: engine.tokenize(questions[number].prompt.encode(), special=True) for number in others}
    put = {number: _put(engine, questions[number], source) for number in letters}
    lengths = {number: len(its) + most for number, its in texts.items()}
    _require_room(engine, questions, lengths | {n: len(its) + 1 for n, (its, _) in put.items()}, source)
    for number, letter in zip(letters, _likeliest(engine, list(put.values())), strict=True):
        said[number], done = letter, done + 1
        tell((done, len(questions)))
    if others:
        answers = engine.generate([texts[number] for number in others], most)
        for number, tokens in zip(others, answers, strict=True):
            text = b"".join(engine.pieces(tokens)).decode("utf-8", "replace")
            said[number], done = text, done + 1
            tell((done, len(questions)))
    return said


def _put(engine: LanguageModel, question: Question, source: str) -> tuple[Tokens, Tokens]:
    """The tokens before a letter, and the token that each letter then is."""
    letters = ascii_uppercase[: question.choices]
    tokens = [engine.tokenize(f"{question.prompt} {letter}".encode()) for letter in letters]
    shortest = min(map(len, tokens))
    table = np.stack([its[:shortest] for its in tokens])
    alike = (table == table[0]).all(axis=0)
    common = shortest if alike.all() else int(np.argmin(alike))
    nexts = table[:, common] if common < shortest else table[:, :0]
    if not common or len(np.unique(nexts)) < question.choices:
        what = "the vocabulary doesn't tell the letters of the choices apart"
        raise EvaluationError(
            what, 'ask with {"prompt": …, "answer": …}', file=source or None, line=question.line
        )
    return table[0, :common], nexts


def _likeliest(engine: LanguageModel, put: Sequence[tuple[Tokens, Tokens]]) -> Iterator[str]:
    """The likeliest letter after each question."""
    found: dict[int, str] = {}

    def look(logits: NDArray[np.float32], sequences: Tokens) -> Tokens:
        for row, number in zip(logits, sequences.tolist(), strict=True):
            found[number] = ascii_uppercase[int(row[put[number][1]].argmax())]
        return np.zeros(len(sequences), np.int32)

    for number, _ in enumerate(engine.generate([tokens for tokens, _ in put], 1, choose=look)):
        yield found[number]


def _require_room(
    engine: LanguageModel, questions: Sequence[Question], lengths: dict[int, int], source: str
) -> None:
    room = engine.facts.n_ctx
    problems = [
        Problem(
            what=f"question and answer take {length:,} tokens, and {engine.path.name} was trained with {room:,}",
            remedy="use a shorter question, or a smaller --answer-tokens",
            file=source or None,
            line=questions[number].line,
        )
        for number, length in sorted(lengths.items())
        if room and length > room
    ]
    if problems:
        raise EvaluationError(abridged(problems))


def questions_key(questions: Sequence[Question], most: int) -> str:
    """Make a digest of what answers depend on, besides the model and the engine."""
    said = [most, *([q.kind, q.prompt, q.choices, q.right, q.answers, q.pattern] for q in questions)]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=16).hexdigest()


def question_figures(
    asked: Asked, questions: Sequence[Question], reference: Asked | None = None, first: Asked | None = None
) -> QuestionFigures:
    """The figures of a model's answers, beside those of the reference and of the first file."""
    kinds: dict[str, list[bool]] = {}
    for question, right in zip(questions, asked.right, strict=True):
        kinds.setdefault(question.kind, []).append(right)
    return QuestionFigures(
        questions=len(questions),
        right=share(sum(asked.right), len(questions)),
        kinds={kind: share(sum(its), len(its)) for kind, its in kinds.items()},
        beside_reference=None if reference is None else paired_share(asked.right, reference.right),
        beside_first=None if first is None else paired_share(asked.right, first.right),
    )
