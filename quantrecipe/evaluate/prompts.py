"""Prompts, and the answers that a model gives to them: greedily, so that the same model answers the same.

A file of prompts has one on each line: plain text, a JSON string, an object with the prompt under "prompt", or a chat.

    Write a function that reverses a list.
    "def reverse(items):\\n"
    {"prompt": "<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n"}
    {"messages": [{"role": "user", "content": "Hi"}]}

A chat is written by the model's chat template, up to where the assistant is to answer. Other prompts are read as
llama.cpp's programs read theirs: markup in them is what it stands for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.session import RunOptions, Session, Tell
from quantrecipe.errors import EvaluationError, Problem, TextError, abridged
from quantrecipe.evaluate.in_process import require_vocabulary
from quantrecipe.evaluate.requests import opened
from quantrecipe.texts.chat_template import ChatTemplate
from quantrecipe.texts.shapes import read_values

__all__ = [
    "DEFAULT_ANSWER_TOKENS",
    "FEWEST_PROMPTS",
    "Answers",
    "Prompt",
    "answer",
    "chat_prompt",
    "prompts_key",
    "read_prompts",
]

DEFAULT_ANSWER_TOKENS = 128
FEWEST_PROMPTS = 100
"""With fewer, a share of them is known to ten per cent at best."""

_SHOWN = 60  # characters of a line in a message


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A prompt, and the line of its file."""

    text: str
    line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What a model answers to some prompts.

    prompts:    tokens of each
    n_vocab:    tokens in the vocabulary; vocabulary: digest of those of the prompts
    most:       tokens that an answer could have
    tokens:     of each answer, without what ended it
    texts:      the same as text
    """

    prompts: tuple[tuple[int, ...], ...]
    n_vocab: int
    vocabulary: str
    most: int
    tokens: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]


def read_prompts(
    path: str | Path, template: Callable[[], ChatTemplate | None] | None = None
) -> tuple[Prompt, ...]:
    """The prompts in a file, in order; empty lines are none. EvaluationError for what is wrong, all of it at once.

    template: gives what writes chats; asked if there is one
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise EvaluationError(f"the prompts can't be read ({error.strerror or error})", file=path) from error
    except UnicodeDecodeError as error:
        what = f"the prompts aren't text in UTF-8: byte {error.start:,} is {error.object[error.start]:#04x}"
        raise EvaluationError(what, "convert them with iconv", file=path) from error
    prompts: list[Prompt] = []
    problems: list[Problem] = []
    writes = cache(template) if template is not None else lambda: None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        found = _prompt(line.removesuffix("\r"), number, path, writes)
        if isinstance(found, Problem):
            problems.append(Problem(what=found.what, remedy=found.remedy, file=path, line=number))
        else:
            prompts.append(Prompt(text=found, line=number))
    if problems:
        raise EvaluationError(abridged(problems))
    if not prompts:
        raise EvaluationError("there are no prompts in it", "write one on each line", file=path)
    return tuple(prompts)


def answer(
    model: str | Path | Session,
    prompts: Sequence[Prompt],
    *,
    source: str | Path | None = None,
    most: int = DEFAULT_ANSWER_TOKENS,
    like: Answers | None = None,
    side_by_side: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **running: Unpack[RunOptions],
) -> Answers:
    """Have a GGUF answer prompts, or the one that is open in a session: in each step the likeliest token.

    source:       the prompts' file, for messages
    like:         the reference's answers: the same tokens are run, and another vocabulary is refused
    side_by_side: see `LanguageModel.generate`
    progress:     told after every few answers
    EvaluationError where a prompt and its answer don't fit into the context that the model was trained with.
    """
    hear = None if progress is None else lambda done: progress(*done)
    with opened(model, **running) as session:
        return session.call(_answers, list(prompts), str(source or ""), most, like, side_by_side, hear=hear)


def prompts_key(prompts: Sequence[Prompt], most: int) -> str:
    """Make a digest of what answers depend on, besides the model and the engine."""
    said = json.dumps([most, *(prompt.text for prompt in prompts)])
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def _answers(
    engine: LanguageModel,
    prompts: Sequence[Prompt],
    source: str,
    most: int,
    like: Answers | None,
    side_by_side: int | None,
    *,
    tell: Tell,
) -> Answers:
    """What `answer` has the worker do. tell: answers done, and all."""
    if like is None:
        tokens = [engine.tokenize(prompt.text.encode(), special=True) for prompt in prompts]
        n_vocab, vocabulary = engine.n_vocab, engine.vocabulary(np.concatenate(tokens))
    else:
        tokens = [np.array(prompt, np.int32) for prompt in like.prompts[: len(prompts)]]
        n_vocab, vocabulary = like.n_vocab, like.vocabulary
        every = np.concatenate([np.array(prompt, np.int32) for prompt in like.prompts])
        require_vocabulary(engine, n_vocab, vocabulary, every)
    if none := [prompt for prompt, its in zip(prompts, tokens, strict=True) if not len(its)]:
        what = "the prompt has no token: there is nothing to go on from"
        raise EvaluationError(
            abridged([Problem(what=what, file=source or None, line=it.line) for it in none])
        )
    if room := engine.facts.n_ctx:
        problems = [
            Problem(
                what=f"the prompt has {len(its):,} tokens; with {most:,} of an answer, the {room:,} are too few "
                f"that {engine.path.name} was trained with",
                remedy="use a shorter prompt, or a smaller --answer-tokens",
                file=source or None,
                line=prompt.line,
            )
            for prompt, its in zip(prompts, tokens, strict=True)
            if len(its) + most > room
        ]
        if problems:
            raise EvaluationError(abridged(problems))
    said = []
    for one in engine.generate(tokens, most, side_by_side=side_by_side):
        said.append(one)
        tell((len(said), len(tokens)))
    return Answers(
        prompts=tuple(tuple(its.tolist()) for its in tokens),
        n_vocab=n_vocab,
        vocabulary=vocabulary,
        most=most,
        tokens=tuple(tuple(its.tolist()) for its in said),
        texts=tuple(b"".join(engine.pieces(its)).decode("utf-8", "replace") for its in said),
    )


def _prompt(line: str, number: int, path: Path, template: Callable[[], ChatTemplate | None]) -> str | Problem:
    """The prompt on a line, or what is wrong with it."""
    start = line.lstrip()[:1]
    if start not in ("{", '"'):
        return line
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        if start == '"':  # a plain text may begin with a quotation
            return line
        what = f"looks like JSON, and isn't ({error}): {line[:_SHOWN]}"
        return Problem(what=what, remedy='write the prompt as {"prompt": "…"}')
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Problem(what=f"has half a character of UTF-16: {line[:_SHOWN]}")
    if isinstance(value, dict):
        if "prompt" not in value and ("messages" in value or "conversations" in value):
            return chat_prompt(value, number, path, template)
        value = value.get("prompt")
    if not isinstance(value, str) or not value:
        return Problem(what=f"has no prompt: {line[:_SHOWN]}", remedy='write it as {"prompt": "…"}')
    return value


def chat_prompt(
    value: dict[str, Any], number: int, path: Path, template: Callable[[], ChatTemplate | None]
) -> str | Problem:
    """A chat up to where the assistant is to answer, as the model's template writes it, or what is wrong with it."""
    try:
        (document,) = read_values([(number, value)], path.name, path)
        writes = template()
        if writes is None:
            return Problem(
                what="is a chat, and the model has no chat template to write it with",
                remedy='write the prompt as text, as {"prompt": "…"}',
            )
        return writes.ask(document).text
    except TextError as error:
        return error.problems[0]
