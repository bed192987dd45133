"""Layers and names as regular expressions that can be read: `([0-9]|1[0-2])`, `attn_(k|q)`."""

from __future__ import annotations

import re
from collections.abc import Collection

from quantrecipe.layer_ranges import layer_runs
from quantrecipe.recipe.regex import exact_regex

__all__ = ["layer_regex", "names_regex"]

_WORDS = re.compile(r"[^_.]+|[_.]")


def layer_regex(layers: Collection[int]) -> str:
    """An expression for these numbers and no others; in parentheses where it has alternatives."""
    parts: list[str] = []
    for first, last in layer_runs(layers):
        parts += _range(first, last)
    return parts[0] if len(parts) == 1 else f"({'|'.join(parts)})"


def names_regex(names: Collection[str]) -> str:
    """An expression for these names and no others: `ffn_(gate|up)_exps`."""
    split = sorted(tuple(_WORDS.findall(name)) for name in names)
    if len(split) == 1:
        return exact_regex("".join(split[0]))
    shortest = min(map(len, split))
    start = next((at for at in range(shortest) if len({words[at] for words in split}) > 1), shortest)
    end = next(
        (at for at in range(shortest - start) if len({words[-1 - at] for words in split}) > 1),
        shortest - start,
    )
    first, last = "".join(split[0][:start]), "".join(split[0][len(split[0]) - end :])
    middle = ("".join(words[start : len(words) - end]) for words in split)
    return f"{exact_regex(first)}({'|'.join(map(exact_regex, middle))}){exact_regex(last)}"


def _range(first: int, last: int) -> list[str]:
    """first-last as expressions of one length each: 3-61 is [3-9], [1-5][0-9], 6[0-1]."""
    parts = []
    while first <= last:
        digits = len(str(first))
        end = min(last, 10**digits - 1)
        parts += _same_length(str(first), str(end))
        first = end + 1
    return parts


def _same_length(first: str, last: str) -> list[str]:
    if len(first) == 1:
        return [_digits(first, last)]
    whole_start, whole_end = set(first[1:]) == {"0"}, set(last[1:]) == {"9"}
    low, high = int(first[0]), int(last[0])
    if low == high:
        return [first[0] + rest for rest in _same_length(first[1:], last[1:])]
    parts = []
    if not whole_start:
        parts += [first[0] + rest for rest in _same_length(first[1:], "9" * len(first[1:]))]
        low += 1
    tail = []
    if not whole_end:
        tail = [last[0] + rest for rest in _same_length("0" * len(last[1:]), last[1:])]
        high -= 1
    if low <= high:
        parts.append(_digits(str(low), str(high)) + "[0-9]" * len(first[1:]))
    return parts + tail


def _digits(first: str, last: str) -> str:
    return first if first == last else f"[{first}-{last}]"
