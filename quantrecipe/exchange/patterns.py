"""The types of tensors as `regex=type`, anchored and disjoint, so that their order means nothing.

    ^blk\\.([0-9]|1[0-2])\\.(attn_v|ffn_down)\\.weight$ → Q6_K

Roles that have the same type in the same layers share an expression.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from quantrecipe.exchange.alternation import layer_regex, names_regex
from quantrecipe.recipe.regex import exact_regex
from quantrecipe.tensor import TensorInfo

__all__ = ["type_patterns"]

_TOWER = re.compile(r"(.+\.blk\.)([0-9]{1,9})\.(.+)")
_ANY_LAYER = "[0-9]+"
_Place = tuple[str, str]  # what stands before the number of the block ("" outside), and what stands behind


def type_patterns(
    types: Mapping[str, str], tensors: Sequence[TensorInfo], named: Collection[str]
) -> list[tuple[str, str]]:
    """(expression, type) that name all tensors of `named`, and of others only those that have the same type."""
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
