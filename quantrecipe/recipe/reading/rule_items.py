"""The items of `rules` and `protect`: from nodes to Rules and KeepEntries, with every mistake noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from quantrecipe.recipe.origin import NOWHERE
from quantrecipe.recipe.reading.named_options import read_encoder, read_options
from quantrecipe.recipe.recipe import KEEP, KeepEntry, Origin, Rule
from quantrecipe.recipe.terms.fact_kinds import FACTS, MODEL_FACTS, TENSOR_FACTS

if TYPE_CHECKING:
    from quantrecipe.api import QuantFormat
    from quantrecipe.recipe.reading.node_reader import Reader
    from quantrecipe.recipe.reading.value_slots import Slots
    from quantrecipe.recipe.reading.variables import Uses
    from quantrecipe.recipe.reading.yaml_document import Node
    from quantrecipe.recipe.terms.pattern import Pattern

__all__ = ["KEEP_KEYS", "RULE_KEYS", "Inclusion", "read_protected", "read_rule"]

RULE_KEYS = (
    "tensors", "layers", "when", "type", "choose", "options", "encoder", "fallback", "why", "optional", "inherited",
)  # fmt: skip
KEEP_KEYS = ("tensors", "when", "why")


@dataclass(frozen=True, kw_only=True, slots=True)
class Inclusion:
    """The name of another recipe, in `extends` or `protect`."""

    ref: str
    origin: Origin = NOWHERE


def read_rule(node: Node, slots: Slots, *, own: bool) -> Rule | None:
    """Read one item of `rules`. `own` is False in a file that the user's own extends."""
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
        options=_options(keys.get("options"), type_, slots.registry.formats, read, slots.uses),
        encoder=read_encoder(keys.get("encoder"), slots),
        fallback=slots.fallback(keys.get("fallback")),
        why=read.text(keys.get("why"), "why") or "",
        optional=read.yes_no(keys.get("optional"), "optional") or False,
        groups=slots.groups(keys.get("tensors")),
    )


def read_protected(key: str, node: Node | None, slots: Slots) -> tuple[KeepEntry | Inclusion, ...] | None:
    """Read the list `protect`, which stands under `key`; return None if there is none."""
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


def _options(
    node: Node | None, type_: str | None, formats: Mapping[str, QuantFormat], reader: Reader, uses: Uses
) -> Mapping[str, Any]:
    """Read the options of a rule, checked against the schema that the format gives; lists become tuples."""
    if node is None:
        return MappingProxyType({})
    if node.kind != "mapping":
        reader.add(node, "options must be a mapping of names and values", "write {name: value}")
        return MappingProxyType({})
    fmt = formats.get(type_ or "")
    if fmt is None:
        if type_ == KEEP:
            reader.add(node, "a kept tensor has no options", "leave `options` out, or name a format")
        return MappingProxyType({})  # a format that isn't there is a problem by itself
    return read_options(node.entries, str(type_), fmt.option_schema, reader, uses)
