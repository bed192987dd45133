"""Definitions: what a recipe gives names to, so that its rules are short and say what they mean.

    groups:
      values: "attn_{v,qkv,kv_b}"                     tensors: group:values
    facts:
      first_eighth: rank < count//8                   when: first_eighth and n_expert != 8

A recipe knows its own definitions and those of the recipes that it extends; of two with one name its own counts,
then the first parent's. The rules of a parent keep the parent's meaning. In the flattened recipe all definitions
are written out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.reading.node_reader import Reader
from quantrecipe.recipe.reading.yaml_document import Node
from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.fact_kinds import FACTS
from quantrecipe.recipe.terms.pattern import GROUP, Pattern
from quantrecipe.wording import closest, listed

if TYPE_CHECKING:
    from quantrecipe.recipe.reading.value_slots import Slots

__all__ = ["Definitions", "expand_group", "read_facts", "read_groups"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
_RESERVED = frozenset({"and", "or", "not", "in", "is", "if", "else", "for", "lambda", "await", "async"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Definitions:
    """Patterns by the name of their group, expressions by the name of their fact."""

    groups: Mapping[str, tuple[Pattern, ...]] = field(default_factory=lambda: MappingProxyType({}))
    facts: Mapping[str, Expression] = field(default_factory=lambda: MappingProxyType({}))

    def over(self, other: Definitions) -> Definitions:
        """Return both together; where both have a name, it means what it means here."""
        return Definitions(
            groups=MappingProxyType({**other.groups, **self.groups}),
            facts=MappingProxyType({**other.facts, **self.facts}),
        )


def read_groups(node: Node | None, read: Reader) -> Mapping[str, tuple[Pattern, ...]]:
    """Read the groups of one file."""
    groups: dict[str, tuple[Pattern, ...]] = {}
    for name, value in _entries(node, "groups", read):
        patterns = []
        for text, item in read.texts(value, name, "a pattern"):
            if text.startswith(GROUP):
                read.add(item, f"the group {name!r} names the group {text!r}", "write its patterns out")
                continue
            if (pattern := read.attempt(item, partial(Pattern.parse, text))) is not None:
                patterns.append(pattern)
                read.spend(item.line, pattern.cost)
        if value.kind == "list" and not value.items:
            read.add(value, f"the group {name!r} is empty", "name its tensors: attn_v, or '*_exps'")
        groups[name] = tuple(patterns)
    return groups


def read_facts(node: Node | None, slots: Slots, known: Mapping[str, Expression]) -> Mapping[str, Expression]:
    """Read the facts of one file. Each may use those before it, and those of the parents."""
    facts: dict[str, Expression] = {}
    read = slots.read
    for name, value in _entries(node, "facts", read):
        if name in FACTS or name in _RESERVED:
            why = "is a word of the language" if name in _RESERVED else "is there already"
            read.add(value, f"the fact {name!r} {why}", "choose another name")
            continue
        text = slots.expression_text(value, name)
        if text is None:
            continue
        fact = read.attempt(value, partial(Expression.parse, text, FACTS, {**known, **facts}))
        if fact is not None:
            facts[name] = fact
            read.spend(value.line, fact.cost)
    return facts


def expand_group(text: str, groups: Mapping[str, tuple[Pattern, ...]]) -> tuple[Pattern, ...]:
    """Return the patterns of `group:NAME`. RecipeError if there is no such group."""
    name = text.removeprefix(GROUP)
    if name in groups:
        return groups[name]
    if close := closest(name, groups):
        remedy = f"did you mean {GROUP}{close}?"
    else:
        remedy = f"known are {listed(groups)}" if groups else "define it under `groups`"
    raise RecipeError(f"there is no group {name!r}", remedy)


def _entries(node: Node | None, key: str, read: Reader) -> list[tuple[str, Node]]:
    if node is None:
        return []
    if node.kind != "mapping":
        read.add(node, f"{key} must be a mapping of names", f"write {key}: {{NAME: …}}, one to a line")
        return []
    found = []
    for name, entry in node.entries.items():
        if _NAME.fullmatch(name):
            found.append((name, entry.value))
        else:
            what = f"{name[:60]!r} is no name for one of the {key}"
            read.add(entry.key, what, "use small letters, digits and _, a letter first")
    return found
