"""What is said of answers: differences, code and calls that are whole, and loops."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from quantrecipe.evaluate.answers import AnswerFigures, answer_figures, first_difference, is_loop, share
from quantrecipe.evaluate.prompts import Answers

MOST = 40


def answers(*texts: str, ended: bool = True, tokens: Sequence[Sequence[int]] | None = None) -> Answers:
    """Answers of a token for each character, or of these tokens; `ended`: within the limit."""
    length = 1 if ended else MOST
    made = [[len(text)] * length for text in texts] if tokens is None else tokens
    return Answers(
        prompts=((1,),) * len(texts),
        n_vocab=9,
        vocabulary="",
        most=MOST,
        tokens=tuple(tuple(its) for its in made),
        texts=texts,
    )


def figures(*texts: str, ended: bool = True) -> AnswerFigures:
    its = answers(*texts, ended=ended)
    return answer_figures(its, its)


def test_differences() -> None:
    reference = answers("", "", "", "", tokens=[[1, 2, 3], [1, 2], [5], [6]])
    other = answers("", "", "", "", tokens=[[1, 9, 3], [1, 2, 4], [5], [7]])
    third = answers("", "", "", "", tokens=[[1, 9, 3], [1, 2, 4], [5], [8]])
    found = answer_figures(third, reference, other)
    assert (found.prompts, found.differ.value, found.first_difference) == (4, 0.75, 1.0)
    assert found.differ_from_first is not None
    assert found.differ_from_first.value == 0.25
    assert answer_figures(reference, reference).first_difference is None
    assert answer_figures(reference, reference).differ_from_first is None


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1], [1, 3], 1), ([], [4], 0), ([], [], None)],
)
def test_the_first_difference(one: list[int], other: list[int], place: int | None) -> None:
    assert first_difference(one, other) == place
    assert first_difference(other, one) == place


CODE = {
    "```python\nx = 1\n```": (1, 1),
    "Look:\n```py\nx =\n```\nand\n~~~Python3\ny = 2\n~~~\n": (2, 1),
    "````python\ns = '''\n```\n'''\n````": (1, 1),
    "```\nx = \n```": (0, 0),
    "```js\nlet x\n```": (0, 0),
    "x = (": (0, 0),
    "```python\nx = '\\d'\n```": (1, 1),  # odd, and valid
    "```python\nx = 1\x00\n```": (1, 0),
    "```python\n" + "(" * 9999 + "\n```": (1, 0),
    "1. First:\n\n    ```python\n    if x:\n        y = 1\n    ```\n": (1, 1),
    "```python\n  x = 1\n```": (1, 0),
}


@pytest.mark.parametrize("text", CODE, ids=range(len(CODE)))
@pytest.mark.filterwarnings("error")
def test_code(text: str) -> None:
    found = figures(text)
    assert (found.code_blocks, found.code_parsed) == CODE[text]


CALLS = {
    '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>': (1, 1),
    '<tool_call>{"name": }</tool_call> <tool_call>[]</tool_call>': (2, 1),
    '```json\n{"a": 1}\n```\n```json\n{a}\n```': (2, 1),
    '[TOOL_CALLS] [{"name": "f"}]': (1, 1),
    '[TOOL_CALLS][{"name": "f"]</s>': (1, 0),
    '<|python_tag|>{"name": "f"}<|eom_id|>': (1, 1),
    "<|python_tag|>print(1)": (0, 0),
    '{"name": "f"}': (0, 0),
    "<tool_call>" + "[" * 9999 + "</tool_call>": (1, 0),
}


@pytest.mark.parametrize("text", CALLS, ids=range(len(CALLS)))
def test_calls(text: str) -> None:
    found = figures(text)
    assert (found.calls, found.calls_valid) == CALLS[text]


@pytest.mark.parametrize("text", ["```python\nx = (", '<tool_call>{"a', '[TOOL_CALLS] [{"a', "```json\n{"])
def test_what_the_limit_cut_off_isn_t_counted(text: str) -> None:
    cut, ended = figures(text, ended=False), figures(text)
    assert (cut.code_blocks, cut.calls) == (0, 0)
    assert (ended.code_blocks + ended.calls, ended.code_parsed + ended.calls_valid) == (1, 0)
    assert (cut.ended, ended.ended) == (0, 1)


@pytest.mark.parametrize(
    ("tokens", "loop"),
    [
        ([7] * 16, True),
        ([7] * 15, False),
        ([*range(30), *[1, 2, 3] * 6], True),
        ([*range(30), *[1, 2, 3] * 5], False),  # fewer tokens than a loop has
        ([*range(30), *[1, 2, 3] * 6, 9], False),
        ([*range(100, 120)] * 4, True),
        ([0, *[*range(100, 120)] * 3], False),
        ([*range(33)] * 4, False),  # longer than what is taken for a loop
        ([], False),
    ],
)
def test_loops(tokens: list[int], loop: bool) -> None:
    assert is_loop(tokens) == loop


def test_a_loop_that_ends_is_none() -> None:
    cut = answers("", tokens=[[7] * MOST])
    ended = answers("", tokens=[[7] * (MOST - 1)])
    assert answer_figures(cut, cut).loops == 1
    assert answer_figures(ended, ended).loops == 0


def test_shares() -> None:
    """Wilson's interval, as in the textbooks' example of 10 of 50."""
    found = share(10, 50)
    assert (found.low, found.high) == pytest.approx((0.1124, 0.3304), abs=1e-4)
    none, every = share(0, 20), share(20, 20)
    assert (none.low, every.high) == (0.0, 1.0)
    assert none.high == pytest.approx(0.1611, abs=1e-4)
    assert share(0, 0).known is None
