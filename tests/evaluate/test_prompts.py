"""Files of prompts: what is one, and what is wrong with a line; and what a worker answers to them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import prompts as prompts_module
from quantrecipe.evaluate.prompts import Answers, Prompt, prompts_key, read_prompts
from quantrecipe.texts import ChatTemplate


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "prompts.jsonl"


def test_prompts_in_each_form(path: Path) -> None:
    lines = [
        "Write a poem.",
        "",
        '{"prompt": "def f(x):\\n", "id": 3}',
        '"a\\nb"',
        '"Hi," she said.',
        "  x  ",
    ]
    path.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    assert read_prompts(path) == (
        Prompt(text="Write a poem.", line=1),
        Prompt(text="def f(x):\n", line=3),
        Prompt(text="a\nb", line=4),
        Prompt(text='"Hi," she said.', line=5),
        Prompt(text="  x  ", line=6),
    )


def test_a_line_may_have_other_ends_of_lines_in_it(path: Path) -> None:
    path.write_text(json.dumps({"prompt": "a\u2028b"}, ensure_ascii=False) + "\na\u2028b\n", encoding="utf-8")
    assert [prompt.text for prompt in read_prompts(path)] == ["a\u2028b"] * 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": 3}', r"prompts\.jsonl:2: has no prompt: \{"),
        ('{"prompt": ""}', "has no prompt"),
        ('{"text": "x"}', "has no prompt"),
        ('{"messages": []}', r"prompts\.jsonl:2: "),
        (
            '{"messages": [{"role": "user", "content": "Hi"}]}',
            "is a chat, and the model has no chat template",
        ),
        ('{"conversations": [{"from": "human", "value": "Hi"}]}', "is a chat, and the model has no"),
        ("{nothing}", "looks like JSON, and isn't"),
        ("{" * 100_000, "looks like JSON, and isn't"),
        ('"\\ud800"', "half a character"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "half a character"),
    ],
)
def test_what_is_no_prompt(path: Path, line: str, message: str) -> None:
    path.write_text(f"fine\n{line}\n", encoding="utf-8")
    with pytest.raises(EvaluationError, match=message) as error:
        read_prompts(path)
    assert len(str(error.value)) < 400


def test_a_chat_is_written_up_to_where_the_assistant_is_to_answer(path: Path) -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    asked: list[ChatTemplate] = []

    def template() -> ChatTemplate:
        asked.append(ChatTemplate(source=source, bos="<s>", adds_bos=True))
        return asked[-1]

    user, answer = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
    lines = [{"messages": [user]}, {"messages": [user, answer]}, {"messages": [user, answer, user]}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert [prompt.text for prompt in read_prompts(path, template)] == [
        *2 * ["<user>Hi<assistant>"],
        "<user>Hi<assistant>Hello<user>Hi<assistant>",
    ]
    assert len(asked) == 1
    path.write_text("plain\n", encoding="utf-8")
    read_prompts(path, template)
    assert len(asked) == 1  # no model is opened for it


def test_a_template_that_fails_is_named_with_the_line(path: Path) -> None:
    path.write_text('fine\n{"messages": [{"role": "user", "content": "Hi"}]}\n', encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"prompts\.jsonl:2: the chat template fails at its line 2: no"):
        read_prompts(path, lambda: ChatTemplate(source="\n{{ raise_exception('no') }}"))


def test_all_is_said_at_once(path: Path) -> None:
    path.write_text("{}\nfine\n{}\n", encoding="utf-8")
    with pytest.raises(EvaluationError) as error:
        read_prompts(path)
    assert [problem.line for problem in error.value.problems] == [1, 3]


def test_nothing_to_ask(path: Path) -> None:
    with pytest.raises(EvaluationError, match="can't be read"):
        read_prompts(path)
    path.write_text(" \n\n", encoding="utf-8")
    with pytest.raises(EvaluationError, match="no prompts in it; write one on each line"):
        read_prompts(path)
    path.write_bytes(b"ok\n\xff\n")
    with pytest.raises(EvaluationError, match="byte 3 is 0xff"):
        read_prompts(path)


def test_the_key_depends_on_every_prompt() -> None:
    prompts = [Prompt(text="ab", line=1), Prompt(text="c", line=2)]
    keys = [
        prompts_key(prompts, 128),
        prompts_key(prompts, 64),
        prompts_key(prompts[:1], 128),
        prompts_key([Prompt(text="a", line=1), Prompt(text="bc", line=2)], 128),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == prompts_key([Prompt(text="ab", line=7), Prompt(text="c", line=9)], 128)


class Answering:
    """A model whose tokens are the characters of a text, and which says 7 and 8."""

    path, n_vocab = Path("model.gguf"), 50
    facts = SimpleNamespace(n_ctx=20)

    def tokenize(self, text: bytes, *, special: bool) -> NDArray[np.int32]:
        assert special  # markup is what it stands for
        return np.array([byte % 50 for byte in text.strip()], np.int32)

    def vocabulary(self, tokens: NDArray[np.int32]) -> str:
        return f"those of {len(tokens)}"

    def generate(
        self, prompts: Sequence[NDArray[np.int32]], n: int, *, side_by_side: int | None
    ) -> Iterator[NDArray[np.int32]]:
        assert (n, side_by_side) == (5, 3)
        yield from (np.array([7, 8], np.int32) for _ in prompts)

    def pieces(self, tokens: NDArray[np.int32]) -> list[bytes]:
        return [{7: b"\xe2\x82", 8: b"\xac"}[token] for token in tokens.tolist()]


def worked(prompts: Sequence[Prompt], like: Answers | None = None) -> tuple[Answers, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    model = cast(LanguageModel, Answering())
    return prompts_module._answers(model, prompts, "p.txt", 5, like, 3, tell=told.append), told


PROMPTS = [Prompt(text="ab", line=1), Prompt(text="c", line=4)]


def test_what_the_worker_answers() -> None:
    said, told = worked(PROMPTS)
    assert said == Answers(
        prompts=((47, 48), (49,)),
        n_vocab=50,
        vocabulary="those of 3",
        most=5,
        tokens=((7, 8), (7, 8)),
        texts=("€", "€"),
    )
    assert told == [(1, 2), (2, 2)]


def test_all_models_get_the_reference_s_tokens() -> None:
    said, _ = worked(PROMPTS)
    other = [Prompt(text="zzzz", line=1), Prompt(text="zzzz", line=4)]
    assert worked(other, said)[0] == said
    assert worked(other[:1], said)[0].prompts == said.prompts[:1]
    foreign = dataclasses.replace(said, vocabulary="others")
    with pytest.raises(EvaluationError, match="mean something else"):
        worked(other, foreign)


def test_a_prompt_that_doesn_t_fit() -> None:
    long = [Prompt(text="x" * 15, line=1), Prompt(text="x" * 16, line=2)]
    assert len(worked(long[:1])[0].tokens) == 1
    with pytest.raises(
        EvaluationError, match=r"p\.txt:2: the prompt has 16 tokens; with 5 of an answer, the 20 are"
    ):
        worked(long)


def test_a_prompt_of_no_token() -> None:
    with pytest.raises(EvaluationError, match=r"p\.txt:2: the prompt has no token"):
        worked([Prompt(text="x", line=1), Prompt(text=" ", line=2)])
