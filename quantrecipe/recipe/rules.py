"""The items of `rules` and `protect`: from nodes to Rules and KeepEntries, with every mistake noted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantrecipe.recipe.expression import FACTS, MODEL_FACTS, TENSOR_FACTS
from quantrecipe.recipe.options import read_options
from quantrecipe.recipe.origin import NOWHERE
from quantrecipe.recipe.recipe import KEEP, KeepEntry, Origin, Rule

if TYPE_CHECKING:
    from quantrecipe.recipe.document import Node
    from quantrecipe.recipe.pattern import Pattern
    from quantrecipe.recipe.slots import Slots

__all__ = ["KEEP_KEYS", "RULE_KEYS", "Inclusion", "read_protected", "read_rule"]

RULE_KEYS = (
    "tensors",
    "layers",
    "when",
    "type",
    "choose",
    "options",
    "fallback",
    "why",
    "optional",
    "inherited",
)
KEEP_KEYS = ("tensors", "when", "why")


@dataclass(frozen=True, kw_only=True, slots=True)
class Inclusion:
    """The name of another recipe, in `extends` or `protect`."""

    ref: str
    origin: Origin = NOWHERE


def read_rule(node: Node, slots: Slots, *, own: bool) -> Rule | None:
    """One item of `rules`; `own` is False in a file that the user's own extends."""
    read = slots.read
    keys = read.mapping(node, "a rule", RULE_KEYS)
    if keys is None:
        return None
    tensors = _tensors(node, keys.get("tensors"), "this rule", slots)
    choose = slots.choose(keys.get("choose"))
    type_ = slots.type(keys.get("type"), "type")
    if "choose" in keys and "type" in keys:
        read.add(node, "this rule has a `type` and a `choose`", "give it one of them")
    elif "choose" in keys and "options" in keys:
        read.add(
            keys["options"],
            "options belong to one format, and this rule leaves the choice",
            "give it a `type`",
        )
    elif "type" not in keys and "choose" not in keys:
        read.add(
            node, "this rule has no `type`", "name a format, or `keep`; or a list of formats to `choose` from"
        )
    return Rule(
        tensors=tensors,
        type="" if choose else type_ or KEEP,
        choose=choose,
        origin=slots.origin(node),
        own=not read.yes_no(keys.get("inherited"), "inherited") and own,
        layers=slots.layers(keys.get("layers")),
        when=slots.when(keys.get("when"), FACTS),
        options=read_options(keys.get("options"), type_, slots.registry.formats, read, slots.uses),
        fallback=slots.fallback(keys.get("fallback")),
        why=read.text(keys.get("why"), "why") or "",
        optional=read.yes_no(keys.get("optional"), "optional") or False,
        groups=slots.groups(keys.get("tensors")),
    )


def read_protected(key: str, node: Node | None, slots: Slots) -> tuple[KeepEntry | Inclusion, ...] | None:
    """The list `protect`, which stands under `key`; None where there is none."""
    if node is None:
        return None
    items: list[KeepEntry | Inclusion] = []
    for item in slots.read.items(node, key):
        if item.kind == "text":
            items.append(Inclusion(ref=item.value, origin=slots.origin(item)))
        elif (keys := slots.read.mapping(item, "an entry of the kept list", KEEP_KEYS)) is not None:
            items.append(
                KeepEntry(
                    tensors=_tensors(item, keys.get("tensors"), "this entry", slots),
                    origin=slots.origin(item),
                    when=slots.when(keys.get("when"), {**MODEL_FACTS, **TENSOR_FACTS}),
                    why=slots.read.text(keys.get("why"), "why") or "",
                )
            )
    return tuple(items)


def _tensors(parent: Node, node: Node | None, what: str, slots: Slots) -> tuple[Pattern, ...]:
    if node is None:
        slots.read.add(
            parent, f"{what} has no `tensors`", "name the tensors that it is about: attn_v, or '*'"
        )
        return ()
    return slots.patterns(node, "tensors")
