"""Options of formats and encoders, held against the schemas that these give; and the value of the key `encoder`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from quantrecipe.recipe.recipe import EncoderChoice
from quantrecipe.wording import closest

if TYPE_CHECKING:
    from quantrecipe.recipe.reading.node_reader import Reader
    from quantrecipe.recipe.reading.value_slots import Slots
    from quantrecipe.recipe.reading.variables import Uses
    from quantrecipe.recipe.reading.yaml_document import Entry, Node

__all__ = ["read_encoder", "read_options"]

_NAME, _EXCEPT = "name", "except_layers"


def read_encoder(node: Node | None, slots: Slots) -> EncoderChoice | None:
    """Read the name of an encoder, or a mapping with its name, the layers that it leaves out, and its options."""
    if node is None:
        return None
    read = slots.read
    entries: Mapping[str, Entry] = {}
    named, spared = node, None
    if node.kind == "mapping":
        if _NAME not in node.entries:
            read.add(node, "encoder: there is no `name`", "write {name: feedback, damping: 0.1}")
            return None
        named = node.entries[_NAME].value
        entries = {key: entry for key, entry in node.entries.items() if key not in (_NAME, _EXCEPT)}
        if _EXCEPT in node.entries:
            spared = slots.layers(node.entries[_EXCEPT].value, _EXCEPT)
    name = read.text(named, "encoder", line=True)
    if name is None:
        return None
    known = slots.registry.encoders
    if name not in known:
        close = closest(name, known)
        remedy = f"did you mean {close!r}?" if close else f"there are {', '.join(sorted(known))}"
        read.add(named, f"there is no encoder {name!r}", remedy)
        return None
    options = read_options(entries, name, known[name].option_schema, read, slots.uses)
    return EncoderChoice(name=name, options=options, except_layers=spared)


def read_options(
    entries: Mapping[str, Entry], owner: str, schema: Mapping[str, Any], reader: Reader, uses: Uses
) -> Mapping[str, Any]:
    """Read options, checked against the schema that their owner gives; lists become tuples."""
    given: dict[str, Any] = {}
    for name, entry in entries.items():
        if name in schema:
            value = uses.fill(entry.value, f"option {name}", "number", "text", "bool")
            if value is not None:
                given[name] = _option(name, value, schema[name], reader)
        else:
            close = closest(name, schema)
            known = f"its options: {', '.join(sorted(schema)) or 'none'}"
            reader.add(
                entry.key,
                f"{owner} has no option {name!r}",
                f"did you mean {close!r}?" if close else known,
            )
    return MappingProxyType(given)


def _option(name: str, node: Node, schema: Mapping[str, Any], reader: Reader) -> Any:
    import jsonschema  # slow to import, and few recipes have options

    value = node.plain()
    for error in jsonschema.Draft202012Validator(schema).iter_errors(value):
        description = schema.get("description", "")
        reader.add(node, f"option {name}: {error.message}", description)
    return _frozen(value)


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return MappingProxyType({key: _frozen(item) for key, item in value.items()})
    return value
