"""The `options` of a rule, checked against the schema that its format gives."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from quantrecipe.recipe.document import Node
from quantrecipe.recipe.reader import Reader
from quantrecipe.recipe.suggest import closest
from quantrecipe.recipe.type_names import KEEP

if TYPE_CHECKING:
    from quantrecipe.api import QuantFormat
    from quantrecipe.recipe.variables import Uses

__all__ = ["read_options"]


def read_options(
    node: Node | None, type_: str | None, formats: Mapping[str, QuantFormat], reader: Reader, uses: Uses
) -> Mapping[str, Any]:
    """Options by name, lists as tuples; problems go to the reader."""
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
    schema = fmt.option_schema
    given: dict[str, Any] = {}
    for name, entry in node.entries.items():
        if name in schema:
            value = uses.fill(entry.value, f"option {name}", "number", "text", "bool")
            if value is not None:
                given[name] = _check(name, value, schema[name], reader)
        else:
            close = closest(name, schema)
            known = f"its options: {', '.join(sorted(schema)) or 'none'}"
            reader.add(
                entry.key,
                f"{type_} has no option {name!r}",
                f"did you mean {close!r}?" if close else known,
            )
    return MappingProxyType(given)


def _check(name: str, node: Node, schema: Mapping[str, Any], reader: Reader) -> Any:
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
