"""What there is to say of answers without knowing the right ones: what differs, what breaks off, what loops.

    differs     from the reference's answer, and from which token on
    code        fenced blocks of Python that Python can parse
    calls       calls of tools that are valid JSON: <tool_call>…</tool_call>, [TOOL_CALLS], <|python_tag|>, and blocks
                of JSON
    loops       the same few tokens over and over, up to where the answer was cut off

A block or a call that the limit of tokens has cut off is neither good nor bad, and isn't counted.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

from quantrecipe.evaluate.prompts import Answers
from quantrecipe.evaluate.resampling import Interval

__all__ = ["AnswerFigures", "answer_figures", "differing", "first_difference", "is_loop", "share"]

_FENCE = re.compile(
    r"^([ \t]*)(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(^[ \t]*\2[`~]*[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_PYTHON = ("python", "py", "python3", "py3")
_JSON = ("json", "tool_call")
_CALL = re.compile(r"<tool_call>(.*?)(</tool_call>|\Z)", re.DOTALL)
_MARK = re.compile(r"(?:\[TOOL_CALLS\]|<\|python_tag\|>)\s*(?=[\[{])(.*)\Z", re.DOTALL)
_SPECIAL_END = re.compile(r"(?:</s>|<\|[^|<>]*\|>)\s*\Z")

_LONGEST_PERIOD = 32  # tokens
_TIMES = 4
_SHORTEST_LOOP = 16  # tokens: a row of dashes in a table is none

_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerFigures:
    """A model's answers beside those of the reference.

    prompts:          how many were answered
    differ:           share of answers that aren't the reference's, token by token
    first_difference: the token at which those that differ do so, from 0: the median; None where none does
    differ_from_first: share of answers that aren't those of the first file; None for the first, and the reference
    ended:            answers that came to an end within the limit
    code_blocks, code_parsed: blocks of Python, and those that are
    calls, calls_valid: calls of tools, and those that are valid JSON
    loops:            answers that repeat themselves until they are cut off
    """

    prompts: int
    differ: Interval
    first_difference: float | None
    differ_from_first: Interval | None
    ended: int
    code_blocks: int
    code_parsed: int
    calls: int
    calls_valid: int
    loops: int


def answer_figures(answers: Answers, reference: Answers, first: Answers | None = None) -> AnswerFigures:
    """The figures of answers to the reference's prompts; `first`: those of the file to compare with besides."""
    places = [first_difference(a, b) for a, b in zip(answers.tokens, reference.tokens, strict=True)]
    differ = [place for place in places if place is not None]
    cut = [len(tokens) >= answers.most for tokens in answers.tokens]
    code = [sound for text, short in zip(answers.texts, cut, strict=True) for sound in _code(text, cut=short)]
    calls = [
        sound for text, short in zip(answers.texts, cut, strict=True) for sound in _calls(text, cut=short)
    ]
    return AnswerFigures(
        prompts=len(places),
        differ=differing(answers, reference),
        first_difference=float(median(differ)) if differ else None,
        differ_from_first=None if first is None else differing(answers, first),
        ended=len(cut) - sum(cut),
        code_blocks=len(code),
        code_parsed=sum(code),
        calls=len(calls),
        calls_valid=sum(calls),
        loops=sum(short and is_loop(tokens) for tokens, short in zip(answers.tokens, cut, strict=True)),
    )


def differing(one: Answers, other: Answers) -> Interval:
    """The share of answers that differ, of the prompts that both have answered: the first ones of either."""
    pairs = list(zip(one.tokens, other.tokens, strict=False))
    return share(sum(a != b for a, b in pairs), len(pairs))


def first_difference(one: Sequence[object], other: Sequence[object]) -> int | None:
    """The first place at which two answers differ, which may be the end of one; None where they are the same."""
    if one == other:
        return None
    places = (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(places, min(len(one), len(other)))


def is_loop(tokens: Sequence[int]) -> bool:
    """Whether an answer ends with the same few tokens, several times."""
    for period in range(1, min(_LONGEST_PERIOD, len(tokens) // _TIMES) + 1):
        length = max(_TIMES * period, _SHORTEST_LOOP)
        if length <= len(tokens) and tokens[-length:-period] == tokens[len(tokens) - length + period :]:
            return True
    return False


def share(count: int, total: int) -> Interval:
    """A share of independent cases, with Wilson's interval of 95 %."""
    if not total:
        return Interval(value=0.0)
    z, p = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2), count / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return Interval(value=p, low=max(0.0, middle - half), high=min(1.0, middle + half))


def _code(text: str, *, cut: bool) -> list[bool]:
    """Of each block of Python, whether it can be parsed."""
    return [
        _parses(block)
        for language, block, whole in _blocks(text)
        if language in _PYTHON and (whole or not cut)
    ]


def _calls(text: str, *, cut: bool) -> list[bool]:
    """Of each call of a tool, whether it is valid JSON."""
    found = [(match[1], bool(match[2])) for match in _CALL.finditer(text)]
    found += [(match[1], False) for match in _MARK.finditer(_SPECIAL_END.sub("", text))]
    found += [(block, whole) for language, block, whole in _blocks(text) if language in _JSON]
    return [_is_json(call) for call, whole in found if whole or not cut]


def _blocks(text: str) -> list[tuple[str, str, bool]]:
    """Of each fenced block its language, its text without the fence's own indent, and whether it has an end."""
    return [
        (match[3].lower(), re.sub(f"^{match[1]}", "", match[4], flags=re.MULTILINE), bool(match[5]))
        for match in _FENCE.finditer(text)
    ]


def _parses(code: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is valid and odd
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last of what is nested too deeply
        return False
    return True


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
