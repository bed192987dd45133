"""The types of tensors as `regex=type`, anchored and disjoint, so that their order means nothing.

    ^blk\\.([0-9]|1[0-2])\\.(attn_v|ffn_down)\\.weight$ → Q6_K

Roles that have the same type in the same layers share an expression.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from quantrecipe.layer_ranges import layer_runs
from quantrecipe.recipe.terms.regex_syntax import exact_regex
from quantrecipe.tensor import TensorInfo

__all__ = ["layer_regex", "names_regex", "type_patterns"]

_WORDS = re.compile(r"[^_.]+|[_.]")
_TOWER = re.compile(r"(.+\.blk\.)([0-9]{1,9})\.(.+)")
_ANY_LAYER = "[0-9]+"
_Place = tuple[str, str]  # what stands before the number of the block ("" outside), and what stands behind


def type_patterns(
    types: Mapping[str, str], tensors: Sequence[TensorInfo], named: Collection[str]
) -> list[tuple[str, str]]:
    """Return (expression, type) that name all tensors of `named`, and of others only those that have the same type."""
    layers: dict[tuple[_Place, str], set[int]] = {}
    present: dict[_Place, set[str | None]] = {}
    flat: dict[str, list[str]] = {}
    for tensor in tensors:
        place, number = _split(tensor)
        type_ = types.get(tensor.name)
        if number is None:
            if type_ is not None and tensor.name in named:
                flat.setdefault(type_, []).append(tensor.name)
            continue
        present.setdefault(place, set()).add(type_)
        if type_ is not None and tensor.name in named:
            layers.setdefault((place, type_), set()).add(number)
    shared: dict[tuple[str, str, str, str], list[str]] = {}
    for (place, type_), numbers in layers.items():
        said = _ANY_LAYER if present[place] == {type_} else layer_regex(numbers)
        ending = place[1].rpartition(".")[2]  # what ends otherwise is seldom meant alike
        shared.setdefault((place[0], said, ending, type_), []).append(place[1])
    found = [(f"^{names_regex(names)}$", type_) for type_, names in flat.items()]
    found += [
        (f"^{exact_regex(before)}{said}\\.{names_regex(rest)}$", type_)
        for (before, said, _, type_), rest in shared.items()
    ]
    return found


def _split(tensor: TensorInfo) -> tuple[_Place, int | None]:
    if tensor.layer is not None:
        before = f"blk.{tensor.layer}."
        return ("blk.", tensor.name.removeprefix(before)), tensor.layer
    match = _TOWER.fullmatch(tensor.name)
    return ((match[1], match[3]), int(match[2])) if match else (("", tensor.name), None)


def layer_regex(layers: Collection[int]) -> str:
    """Return an expression for these numbers and no others; in parentheses if it has alternatives."""
    parts: list[str] = []
    for first, last in layer_runs(layers):
        parts += _range(first, last)
    return parts[0] if len(parts) == 1 else f"({'|'.join(parts)})"


def names_regex(names: Collection[str]) -> str:
    """Return an expression for these names and no others: `ffn_(gate|up)_exps`."""
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
    """Return first-last as expressions of one length each: 3-61 is [3-9], [1-5][0-9], 6[0-1]."""
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
