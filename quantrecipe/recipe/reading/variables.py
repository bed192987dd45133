"""Variables: what a recipe leaves to whoever uses it, with a type, a default and a reason.

    variables:
      experts: IQ3_S                                           the type is plain: a format, a number, true or false
      early: {type: layers, default: first 1/8, why: …}        any type, spelt out
    rules:
      - {tensors: "*_exps", type: $experts}                    a value that is the variable
        layers: "$early, last 1"                               in `layers`, `when` and `facts` also a part of it

A file may use what it or its parents define. Where the values come from is said in `declarations`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from quantrecipe.recipe.origin import Origin
from quantrecipe.recipe.reading.node_reader import Reader
from quantrecipe.recipe.reading.yaml_document import Node, NodeKind
from quantrecipe.wording import closest, listed

__all__ = ["VARIABLE_TYPES", "Uses", "Value", "Variable", "VariableType", "kind_text"]

Value = str | int | float | bool
VariableType = Literal["format", "number", "text", "bool", "layers", "pattern", "size"]
VARIABLE_TYPES: tuple[VariableType, ...] = get_args(VariableType)

_LONGEST = 10_000
"""Characters of a text in which variables are looked for: more than a `when` or `layers` may have."""
_USE = re.compile(r"\$(\w+)")
_TEXT_OR_USE = re.compile(r"'[^']*'|\"[^\"]*\"|\$(\w+)")
_ARTICLES: Mapping[VariableType, str] = MappingProxyType(
    {
        "format": "a format",
        "number": "a number",
        "text": "a text",
        "bool": "true or false",
        "layers": "layers",
        "pattern": "a pattern",
        "size": "a size",
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """A variable and its value.

    value:   str, int, float or bool; a size and layers as they are written
    default: the recipe's own value
    origin:  where the default stands
    set:     True where a setting gave the value
    """

    name: str
    type: VariableType
    value: Value
    default: Value
    origin: Origin
    why: str = ""
    set: bool = False


def kind_text(type_: VariableType) -> str:
    """Return the type as a sentence says it."""
    return _ARTICLES[type_]


class Uses:
    """Fills variables in where they stand in one file, and remembers which."""

    def __init__(self, variables: Mapping[str, Variable], names: Iterable[str], read: Reader) -> None:
        """`names` are those that the file may use; what has no value here was wrong where it is defined."""
        self._variables = variables
        self._known = dict.fromkeys(sorted(names))
        self._read = read
        self.names: set[str] = set()

    def fill(self, node: Node | None, key: str, *types: VariableType) -> Node | None:
        """Return the node; for `$name`, one that has the value. If that can't be, note a problem and return None."""
        match = _USE.fullmatch(node.value) if node is not None and node.kind == "text" else None
        if node is None or match is None:
            return node
        variable = self._find(match[1], node, key, types)
        if variable is None:
            return None
        return _node(variable.value, node)

    def fill_in(self, text: str, node: Node, key: str, *types: VariableType) -> str | None:
        """Return the text with the values of all variables in it; texts in quotes stay as they are."""
        if len(text) > _LONGEST:
            return text  # more than anything here may have; whoever reads it says so
        missing = False

        def value(match: re.Match[str]) -> str:
            nonlocal missing
            if match[1] is None:
                return match[0]
            variable = self._find(match[1], node, key, types)
            missing = missing or variable is None
            return "" if variable is None else _spell(variable)

        filled = _TEXT_OR_USE.sub(value, text)
        return None if missing else filled

    def _find(self, name: str, node: Node, key: str, types: tuple[VariableType, ...]) -> Variable | None:
        self.names.add(name)
        if name not in self._known:
            close = closest(name, self._known)
            remedy = f"known are {listed(self._known)}" if self._known else "define it under `variables`"
            remedy = f"did you mean ${close}?" if close else remedy
            self._read.add(node, f"there is no variable {name[:60]!r}", remedy)
            return None
        variable = self._variables.get(name)
        if variable is not None and variable.type not in types:
            wanted = " or ".join(_ARTICLES[type_] for type_ in types)
            what = f"${name} is {_ARTICLES[variable.type]} ({variable.origin}), and {key} needs {wanted}"
            self._read.add(node, what, "use another variable, or give it another type")
            variable = None
        return variable


def _node(value: Value, where: Node) -> Node:
    kind: NodeKind = (
        "yes-or-no" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    )
    return Node(kind, value, where.line, where.column)


def _spell(variable: Variable) -> str:
    """Write the value as it stands in an expression, or among layers."""
    if variable.type == "text":
        return repr(variable.value)
    if (
        isinstance(variable.value, int | float)
        and not isinstance(variable.value, bool)
        and variable.value < 0
    ):
        return f"({variable.value})"
    return str(variable.value)
