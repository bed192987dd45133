"""Files of prompts: what is one, and what is wrong with a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate.prompts import Prompt, prompts_key, read_prompts


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
        ('{"messages": []}', "is a chat, not a prompt; write it as the model's chat template"),
        ('{"conversations": []}', "is a chat"),
        ("{nothing}", "looks like JSON, and isn't"),
        ("{" * 100_000, "looks like JSON, and isn't"),
        ('"\\ud800"', "half a character"),
    ],
)
def test_what_is_no_prompt(path: Path, line: str, message: str) -> None:
    path.write_text(f"fine\n{line}\n", encoding="utf-8")
    with pytest.raises(EvaluationError, match=message) as error:
        read_prompts(path)
    assert len(str(error.value)) < 400


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
