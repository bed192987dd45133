"""Calibration text that a model writes itself: its answers to prompts, drawn by lot, until there are enough tokens.

    written = write_texts("model.bf16.gguf", prompts(template), journal, WritingSettings(tokens=200_000))
    written.documents        chats, or texts where the model has no template; as `json_lines_of` writes them

Each round asks every prompt once, in an order of its own. What is drawn depends on the seed, the round and the prompt
alone, so that the same engine on the same machine writes the same text again, and a run that was stopped goes on from
its journal with the answer that came next.

Answers that end in a loop are left out: a model that has lost its way repeats a few words until it is stopped, and its
inputs there are no model's at work. So are empty ones, and what isn't text in UTF-8.

The prompts that ship (prompts.jsonl) were written for this project, and have its licence. They are chats, and openings
of texts for models that only go on with one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import numpy as np

from quantrecipe.engine.generation import Sampler, side_by_side_for
from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.session import RunOptions, Session, Tell
from quantrecipe.errors import EvaluationError, OutputError, TextError
from quantrecipe.output.kept_lines import KeptLines
from quantrecipe.texts import ChatTemplate, Document, Domain, Message, Rendered, read_domain
from quantrecipe.typed import typed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tokens = NDArray[np.int32]

__all__ = [
    "Answer",
    "AskedPrompts",
    "Prompt",
    "Rewritten",
    "Writing",
    "WritingSettings",
    "Written",
    "Wrote",
    "ends_in_a_loop",
    "own_prompts",
    "prompts_for",
    "write_texts",
]

Fate = Literal["kept", "loop", "empty", "broken"]

_PROMPTS = Path(__file__).with_name("prompts.jsonl")
_SIDE_BY_SIDE = 16  # sequences at most: the weights are read once for all of them
_TOLD_EVERY = 1.0  # seconds
_SHORTEST_ANSWER = 16  # tokens that there is to be room for

_LOOP = 32  # tokens at least that repeat what was before
_LONGEST_PERIOD = 256  # tokens: a paragraph
_REPEATS = 3  # times, besides the first


@dataclass(frozen=True, kw_only=True, slots=True)
class WritingSettings:
    """How a model writes.

    tokens:        of the answers that are kept, at least
    seed:          decides what is drawn
    temperature:   1 draws each token as often as the model thinks it likely
    min_p:         leaves out tokens that are less likely than this share of the likeliest: far ones, which derail a
                   text once drawn
    answer_tokens: the most of an answer
    """

    tokens: int = 200_000
    seed: int = 1
    temperature: float = 1.0
    min_p: float = 0.05
    answer_tokens: int = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A chat without its answer, or the beginning of a text; and how the model gets it."""

    document: Document
    rendered: Rendered

    def answered(self, text: str) -> Document:
        """The document with what the model said."""
        if self.document.text is not None:
            return replace(self.document, text=self.document.text + text)
        opened = self.rendered.text.rstrip().endswith("<think>")
        return replace(self.document, messages=(*self.document.messages, _message(text, opened=opened)))


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedPrompts:
    """Prompts as a model gets them, and those that its template refuses."""

    prompts: tuple[Prompt, ...]
    refused: tuple[TextError, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What was answered to a prompt, by its number, and what became of it. tokens: of the answer"""

    prompt: int
    round: int
    tokens: int
    text: str
    fate: Fate


@dataclass(frozen=True, kw_only=True, slots=True)
class Writing:
    """Told while answers are written, and at first: tokens so far, those that will be left out included."""

    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Wrote:
    """Told when some answers are complete."""

    answers: tuple[Answer, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewritten:
    """Told where the journal is damaged from this line on, which no crash does: what it had is written again."""

    journal: Path
    line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What a model wrote.

    answers: all, in their order; prompts: what they answer
    engine:  the llama.cpp that ran the model
    resumed: answers that an earlier run wrote
    """

    prompts: tuple[Prompt, ...]
    answers: tuple[Answer, ...]
    engine: str
    resumed: int

    @property
    def kept(self) -> tuple[Answer, ...]:
        """Those that are calibration text."""
        return tuple(it for it in self.answers if it.fate == "kept")

    @property
    def tokens(self) -> int:
        """Of the answers that are kept."""
        return sum(it.tokens for it in self.kept)

    @property
    def documents(self) -> tuple[Document, ...]:
        """The prompts with their answers."""
        return tuple(self.prompts[it.prompt].answered(it.text) for it in self.kept)

    def count(self, fate: Fate) -> int:
        """How many answers have this fate."""
        return sum(it.fate == fate for it in self.answers)


Heard = Callable[["Writing | Wrote | Rewritten"], None]


def own_prompts(*, chats: bool) -> Domain:
    """The prompts that ship: chats, or openings of texts."""
    domain = read_domain(str(_PROMPTS))
    return replace(domain, documents=tuple(it for it in domain.documents if it.is_chat == chats))


def prompts_for(documents: Sequence[Document], template: ChatTemplate | None) -> AskedPrompts:
    """Documents as the model gets them. TextError for a chat where there is no template.

    Chats lose what the assistant says at their end. Where a template refuses a system message, it is put in front of
    what the user says, as is usual for such models.
    """
    prompts: list[Prompt] = []
    refused: list[TextError] = []
    for document in documents:
        if not document.is_chat:
            plain = Rendered(text=document.text or "", special=False, answers=(), place=document.place)
            prompts.append(Prompt(document=document, rendered=plain))
            continue
        if template is None:
            what = "is a chat, and the model has no chat template (tokenizer.chat_template) to write it with"
            remedy = "give prompts that are the beginnings of texts, or take the instruction-tuned model"
            raise TextError(what, remedy, file=document.place)
        messages = document.messages
        while messages and messages[-1].role == "assistant":
            messages = messages[:-1]
        asked = replace(document, messages=messages)
        try:
            prompts.append(Prompt(document=asked, rendered=template.ask(asked)))
        except TextError as error:
            try:
                asked = replace(asked, messages=_without_system(messages))
                prompts.append(Prompt(document=asked, rendered=template.ask(asked)))
            except TextError:
                refused.append(error)
    return AskedPrompts(prompts=tuple(prompts), refused=tuple(refused))


def write_texts(
    model: str | Path,
    prompts: Sequence[Prompt],
    journal: str | Path,
    settings: WritingSettings | None = None,
    *,
    told: Mapping[str, Any] | None = None,
    hear: Heard | None = None,
    **running: Unpack[RunOptions],
) -> Written:
    """Have a GGUF answer prompts until there are enough tokens.

    journal: a file that what was answered is kept in, for a run that is stopped; who has written the text removes it
    told:    what the answers depend on besides prompts and settings, such as the model's hash: a journal that was
             written with something else isn't gone on from
    EvaluationError where llama.cpp or the model isn't fit for it, or every answer has to be left out; OutputError where
    the journal can't be written.
    """
    settings = settings or WritingSettings()
    _check(settings, prompts)
    hear = hear or _nothing
    with Session(model, **running) as session:
        key = {
            "told": dict(told or {}),
            "engine": session.facts.engine,
            # How many tokens there are to be decides nothing but the end.
            "settings": asdict(replace(settings, tokens=0)),
            "prompts": [[it.rendered.text, it.rendered.special] for it in prompts],
        }
        with _Journal(Path(journal), key) as kept:
            if kept.damaged:
                hear(Rewritten(journal=Path(journal), line=kept.damaged))
            before = len(kept.answers)
            work = _Work(
                prompts=tuple(it.rendered for it in prompts),
                settings=settings,
                answered=before,
                tokens=sum(it.tokens for it in kept.answers if it.fate == "kept"),
            )

            hear(Writing(tokens=work.tokens))

            def heard(what: Writing | Wrote | Rewritten) -> None:
                if isinstance(what, Wrote):
                    kept.add(what.answers)
                hear(what)

            session.call(write, work, hear=heard)
        return Written(
            prompts=tuple(prompts),
            answers=tuple(kept.answers),
            engine=session.facts.engine,
            resumed=before,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """What the session's process is to do. answered, tokens: what there is already."""

    prompts: tuple[Rendered, ...]
    settings: WritingSettings
    answered: int
    tokens: int


def write(model: LanguageModel, work: _Work, *, tell: Tell) -> None:
    """Answer prompts until there are enough tokens. tell: hears `Writing` and `Wrote`"""
    settings = work.settings
    prompts = [model.tokenize(it.data, special=it.special) for it in work.prompts]
    most = max(map(len, prompts))
    room, n = model.facts.n_ctx, settings.answer_tokens
    if room and most + n > room:
        n = room - most
    if n < min(_SHORTEST_ANSWER, settings.answer_tokens):
        what = f"a prompt has {most:,} tokens, and the model was trained with contexts of {room:,}: no room to answer"
        raise EvaluationError(what, "give shorter prompts", file=model.path)
    together = side_by_side_for(_SIDE_BY_SIDE, most + n, most=_SIDE_BY_SIDE)
    tokens, answered = work.tokens, work.answered
    without = 0  # answers since the last that was kept
    said, told = tokens, monotonic()
    while tokens < settings.tokens:
        places = [_place(settings.seed, len(prompts), answered + number) for number in range(together)]
        sampler = Sampler(settings.temperature, settings.min_p, _Generators(settings.seed, places))

        def choose(logits: NDArray[np.float32], sequences: Tokens, sampler: Sampler = sampler) -> Tokens:
            nonlocal said, told
            said += len(sequences)
            if monotonic() - told > _TOLD_EVERY:
                told = monotonic()
                tell(Writing(tokens=said))
            return sampler(logits, sequences)

        found = model.generate(
            [prompts[prompt] for _, prompt in places],
            n,
            side_by_side=together,
            longest=most + n,
            choose=choose,
            keep_shape=False,
        )
        answers = tuple(
            _answer(model, it, turn, prompt) for (turn, prompt), it in zip(places, found, strict=True)
        )
        answered += len(answers)
        kept = sum(it.tokens for it in answers if it.fate == "kept")
        without = 0 if kept else without + len(answers)
        tokens, said = tokens + kept, tokens + kept
        tell(Wrote(answers=answers))
        if without >= max(len(prompts), _SIDE_BY_SIDE):
            what = f"of {without:,} answers none is a text: they are empty, or end in loops"
            remedy = (
                "is it the right model? A base model may be lost in chats, and a --temperature below 1 help"
            )
            raise EvaluationError(what, remedy, file=model.path)


def ends_in_a_loop(tokens: Tokens) -> bool:
    """Whether the end of an answer is the same few tokens again and again: at least four times, and for a while."""
    for period in range(1, min(_LONGEST_PERIOD, len(tokens) // 2) + 1):
        differ = np.flatnonzero(tokens[period:] != tokens[:-period])
        same = len(tokens) - period - (int(differ[-1]) + 1 if len(differ) else 0)
        if same >= max(_REPEATS * period, _LOOP):
            return True
    return False


class _Generators:
    """Random numbers for each sequence: of the seed, its round and its prompt."""

    def __init__(self, seed: int, places: Sequence[tuple[int, int]]) -> None:
        self._seed, self._places = seed, places

    def __call__(self, sequence: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *self._places[sequence]])


def _place(seed: int, prompts: int, number: int) -> tuple[int, int]:
    """The round and the prompt of an answer: each round has an order of its own."""
    turn, place = divmod(number, prompts)
    return turn, int(np.random.default_rng([seed, turn]).permutation(prompts)[place])


def _answer(model: LanguageModel, tokens: Tokens, turn: int, prompt: int) -> Answer:
    data = b"".join(model.pieces(tokens)) if len(tokens) else b""
    text = _whole(data)
    fate: Fate = "kept"
    if text is None or "\0" in text:
        fate = "broken"
    elif not text.strip():
        fate = "empty"
    elif ends_in_a_loop(tokens):
        fate = "loop"
    said = text if fate == "kept" and text is not None else ""  # what is left out isn't needed again
    return Answer(prompt=prompt, round=turn, tokens=len(tokens), text=said, fate=fate)


def _whole(data: bytes) -> str | None:
    """The text, without a character that isn't complete at its end; None where it isn't UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and error.start > len(data) - 4:
            return data[: error.start].decode()
        return None


def _message(text: str, *, opened: bool) -> Message:
    """What an assistant said, with what it thought apart. opened: the template has begun the thought."""
    thought, closed, content = text.partition("</think>")
    begun = opened or thought.lstrip().startswith("<think>")
    if not begun:
        return Message(role="assistant", content=text)
    reasoning = thought.lstrip().removeprefix("<think>").strip("\n")
    return Message(role="assistant", content=content.lstrip("\n") if closed else "", reasoning=reasoning)


def _without_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    if len(messages) < 2 or messages[0].role != "system":
        return tuple(messages)
    first = replace(messages[1], content=f"{messages[0].content}\n\n{messages[1].content}")
    return (first, *messages[2:])


def _check(settings: WritingSettings, prompts: Sequence[Prompt]) -> None:
    """EvaluationError for what can't be."""
    if not prompts:
        raise EvaluationError("there are no prompts", "give some, or leave out --prompts for those that ship")
    if settings.tokens < 1 or settings.answer_tokens < 1:
        raise EvaluationError("no tokens are to be written", "give a number from 1")
    if not (settings.temperature > 0 and np.isfinite(settings.temperature)):
        raise EvaluationError(f"a temperature of {settings.temperature:g} draws nothing", "use 1, or 0.8")
    if not 0 <= settings.min_p < 1:
        raise EvaluationError(f"a min-p of {settings.min_p:g} is no share below 1", "use 0.05, or 0 for none")
    if settings.seed < 0:
        raise EvaluationError(f"{settings.seed} is no seed", "give a number from 0")


class _Journal:
    """The answers so far, a line for each few that were written side by side, behind a line that says what they are of.

    What is damaged is taken away with all behind it: what is missing is written again, and comes out the same.

    damaged: the number of the line from which on it was, although no crash does that; 0 for none
    """

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        busy = OutputError(f"another process is writing {path}", "wait for it, or name another file with -o")
        key = json.loads(json.dumps(key))
        self.answers: list[Answer] = []
        self._path = path
        try:
            self._file = KeptLines(path, busy=busy, private=True, forgive=True)
        except OutputError as error:
            raise error if error is busy else self._failed(error) from error
        self.damaged = self._file.damaged
        self._take(key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, answers: Sequence[Answer]) -> None:
        """Note some that are complete."""
        self._append({"answers": [asdict(it) for it in answers]})
        self.answers += answers

    def _append(self, line: dict[str, Any]) -> None:
        try:
            self._file.append(line)
        except OutputError as error:
            raise self._failed(error) from error

    def _take(self, key: dict[str, Any]) -> None:
        lines = self._file.lines
        if not lines or lines[0][1].get("key") != key:
            self._file.restart()
            self._append({"key": key})
            return
        for place, (number, line) in enumerate(lines[1:], 1):
            try:
                self.answers += typed(line["answers"], tuple[Answer, ...])
            except (ValueError, KeyError):
                self.damaged = number
                self._file.restart(place)
                return

    def _failed(self, error: OutputError) -> OutputError:
        what = f"what was written so far can't be saved ({error.problems[0].what})"
        return OutputError(what, "name another place with -o FILE", file=self._path)


def _nothing(what: object) -> None:
    """Hears what happens where nobody asked."""
