"""Summarise: from the type of each tensor to the few rules that a person would have written.

    blk.0.attn_v.weight    Q6_K            tensors: attn_v
    blk.1.attn_v.weight    Q6_K    →       layers: first 2, last 2
    blk.2.attn_v.weight    Q4_K            type: Q6_K
    …

Tensors of one role are a column: a type for each layer. Each column becomes a type that most of it has, and a rule for
each other type with its layers; columns that say the same share their rules. No pattern has a wildcard in a role, so
that a rule reaches what it names, kept list or not, and nothing else.

The result depends on nothing but the arguments, and 60,000 tensors take about a second.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from quantrecipe.recipe.recipe import Rule
from quantrecipe.recipe.terms.pattern import HEAD
from quantrecipe.recipe.writing.braces import braced
from quantrecipe.recipe.writing.role_columns import Column, Selector, columns, describe
from quantrecipe.tensor import TensorInfo, head_name

__all__ = ["common_type", "summarise"]


_WORTH_IT = 1
"""A default that isn't the most common type has to save more rules than this."""


def summarise(
    types: Mapping[str, str],
    tensors: Sequence[TensorInfo],
    n_layers: int,
    *,
    default: str | None = None,
    base: Mapping[str, str] | None = None,
    why: Callable[[Rule], str] | None = None,
) -> list[Rule]:
    """Return rules: the first that names a tensor gives it the type that `types` says.

    types:    by tensor name; what has none is named by no rule
    tensors:  all tensors of the model
    n_layers: layers, without nextn blocks
    default:  the type of what no rule names; rules say the exceptions. None: every tensor in `types` has its rule
    base:     by tensor name, the types that tensors have without a rule, where `default` isn't all there is to it
    why:      the reason of a rule, by the rule; else rules have none
    """
    if base is None:
        base = {} if default is None else dict.fromkeys(types, default)
    head = head_name(tensors)
    by_names, by_selector, found = _rules_wanted(types, tensors, n_layers, base)
    rules = [Rule.of([f"name:{name}" for name in names], type=type_) for type_, names in by_names.items()]
    for selector, type_ in _in_order(by_selector):
        patterns = _patterns([found[number] for number in by_selector[selector, type_]], selector, head)
        rules.append(Rule.of(patterns, layers=selector.layers, when=selector.when, type=type_))
    return rules if why is None else [replace(rule, why=why(rule)) for rule in rules]


def common_type(
    types: Mapping[str, str], tensors: Sequence[TensorInfo], n_layers: int, *, reached: Collection[str]
) -> str | None:
    """Return the type of most weights, or another one if that saves several rules.

    reached: names of the tensors that a default is about
    """
    weights: dict[str, int] = {}
    for tensor in tensors:
        if tensor.name in types and tensor.name in reached:
            type_ = types[tensor.name]
            weights[type_] = weights.get(type_, 0) + tensor.size
    candidates = sorted(weights, key=lambda type_: (-weights[type_], type_))[:4]
    costs = {}
    for type_ in candidates:
        named, selected, _ = _rules_wanted(types, tensors, n_layers, dict.fromkeys(reached, type_))
        costs[type_] = len(named) + len(selected)
    best = min(candidates, key=costs.__getitem__, default=None)
    return best if best is None or costs[candidates[0]] - costs[best] > _WORTH_IT else candidates[0]


def _rules_wanted(
    types: Mapping[str, str], tensors: Sequence[TensorInfo], n_layers: int, base: Mapping[str, str]
) -> tuple[dict[str, list[str]], dict[tuple[Selector, str], list[int]], list[Column]]:
    """Return what becomes rules: full names by type, numbers of columns by selector and type; and the columns."""
    found, odd = columns(types, tensors, base)
    by_selector: dict[tuple[Selector, str], list[int]] = {}
    for number, column in enumerate(found):
        for part in describe(column, n_layers):
            by_selector.setdefault(part, []).append(number)
    # Names that no pattern spells, or spells for another tensor too. Their rules come first, since the name of a tower
    # inside of a block is spelt by the patterns of towers, too.
    by_names: dict[str, list[str]] = {}
    for cell in odd:
        if cell.type is not None and (not cell.given or "blk." in cell.name[4:]):
            by_names.setdefault(cell.type, []).append(cell.name)
    return by_names, by_selector, found


def _in_order(rules: Mapping[tuple[Selector, str], list[int]]) -> list[tuple[Selector, str]]:
    """Order rules by their first column; those for all of a column come after those for some of it."""
    keys = list(rules)
    partial: dict[int, list[int]] = {}
    waits = [0] * len(keys)
    behind: list[list[int]] = [[] for _ in keys]
    for place, key in enumerate(keys):
        if not key[0].everything:
            for number in rules[key]:
                partial.setdefault(number, []).append(place)
    for place, key in enumerate(keys):
        if key[0].everything:
            for before in {it for number in rules[key] for it in partial.get(number, ())}:
                waits[place] += 1
                behind[before].append(place)
    ready = [(rules[keys[place]][0], place) for place, count in enumerate(waits) if not count]
    heapq.heapify(ready)
    ordered = []
    while ready:
        _, place = heapq.heappop(ready)
        ordered.append(keys[place])
        for later in behind[place]:
            waits[later] -= 1
            if not waits[later]:
                heapq.heappush(ready, (rules[keys[later]][0], later))
    return ordered


def _patterns(members: Sequence[Column], selector: Selector, head: str | None) -> tuple[str, ...]:
    if selector.names:
        return braced([name.removesuffix(".weight") for name in selector.names])
    is_head = [[cell.name for cell in column.cells] == [head] for column in members]
    roles = [column.pattern for column, it in zip(members, is_head, strict=True) if not it]
    return (*((HEAD,) if any(is_head) else ()), *braced(roles))
