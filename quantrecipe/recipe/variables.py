"""Variables: what a recipe leaves to whoever uses it, with a type, a default and a reason.

    variables:
      experts: IQ3_S                                           the type is plain: a format, a number, true or false
      early: {type: layers, default: first 1/8, why: …}        any type, spelt out
    rules:
      - {tensors: "*_exps", type: $experts}                    a value that is the variable
        layers: "$early, last 1"                               in `layers`, `when` and `facts` also a part of it

One name is one variable in a recipe and all that it extends. A setting (`--set experts=IQ2_S`) decides its value,
else the first default in the chain: a child's replaces its parent's. A file may use what it or its parents define.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, cast, get_args

from quantrecipe.errors import Problem, RecipeError
from quantrecipe.recipe.document import Node, NodeKind, scalar
from quantrecipe.recipe.layers import LayerSet
from quantrecipe.recipe.origin import Origin
from quantrecipe.recipe.pattern import GROUP, Pattern
from quantrecipe.recipe.reader import Reader
from quantrecipe.recipe.size import parse_size
from quantrecipe.recipe.type_names import is_type, read_type

if TYPE_CHECKING:
    from quantrecipe.registry import Registry

__all__ = [
    "VARIABLE_KEYS",
    "VARIABLE_TYPES",
    "Declaration",
    "Uses",
    "Variable",
    "VariableType",
    "bind",
    "read_variables",
    "unknown_settings",
]

VariableType = Literal["format", "number", "text", "bool", "layers", "pattern", "size"]
VARIABLE_TYPES: tuple[VariableType, ...] = get_args(VariableType)
VARIABLE_KEYS = ("type", "default", "why")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}", re.ASCII)
_USE = re.compile(r"\$(\w+)")
_TEXT_OR_USE = re.compile(r"'[^']*'|\"[^\"]*\"|\$(\w+)")
_PLAIN_TYPES: Mapping[NodeKind, VariableType] = MappingProxyType({"number": "number", "yes-or-no": "bool"})
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
    value: str | int | float | bool
    default: str | int | float | bool
    origin: Origin
    why: str = ""
    set: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """What one file says of a variable; `type` is None where it doesn't say."""

    name: str
    type: VariableType | None
    default: Node
    why: str
    origin: Origin
    read: Reader


def read_variables(node: Node | None, read: Reader) -> tuple[Declaration, ...]:
    """The key `variables` of one file; types and defaults are compared in `bind`, with those of its relatives."""
    if node is None:
        return ()
    if node.kind != "mapping":
        read.add(node, "variables must be a mapping of names", "write variables: {NAME: default}")
        return ()
    found = []
    for name, entry in node.entries.items():
        if not _NAME.fullmatch(name):
            what = f"{name[:60]!r} is no name for a variable"
            read.add(entry.key, what, "use small letters, digits and _, a letter first")
            continue
        type_, default, why = None, entry.value, ""
        if default.kind == "mapping":
            keys = read.mapping(default, f"the variable {name!r}", VARIABLE_KEYS) or {}
            if "default" not in keys:
                read.add(
                    default,
                    f"the variable {name!r} has no `default`",
                    "recipes work as they are: give it one",
                )
                continue
            type_ = cast("VariableType | None", read.choice(keys.get("type"), "type", VARIABLE_TYPES))
            if type_ is None and "type" in keys:
                continue
            default, why = keys["default"], read.text(keys.get("why"), "why") or ""
        origin = Origin(file=read.file, line=entry.key.line)
        found.append(Declaration(name=name, type=type_, default=default, why=why, origin=origin, read=read))
    return tuple(found)


def bind(
    declarations: Iterable[Declaration], settings: Mapping[str, str], registry: Registry
) -> tuple[Mapping[str, Variable], list[Problem]]:
    """The variables of a recipe, in the order of the chain, and what is wrong with the settings.

    What is wrong with a declaration goes to the reader of its file.
    """
    by_name: dict[str, list[Declaration]] = {}
    for declaration in declarations:
        by_name.setdefault(declaration.name, []).append(declaration)
    variables: dict[str, Variable] = {}
    problems: list[Problem] = []
    for name, said in by_name.items():
        type_ = next((it.type for it in said if it.type), None) or _plain_type(said, registry)
        defaults = [_default(it, type_, registry) for it in said] if type_ else []
        if type_ is None or defaults[0] is None:
            continue
        value, wrong = _setting(name, settings[name], type_, registry) if name in settings else (None, [])
        problems += wrong
        variables[name] = Variable(
            name=name,
            type=type_,
            value=defaults[0] if value is None else value,
            default=defaults[0],
            origin=said[0].origin,
            why=next((it.why for it in said if it.why), ""),
            set=value is not None,
        )
    return variables, problems


def unknown_settings(settings: Iterable[str], known: Iterable[str]) -> list[Problem]:
    """A problem for each setting of a variable that the recipe doesn't have."""
    names = list(dict.fromkeys(known))
    problems = []
    for name in settings:
        if name not in names:
            close = get_close_matches(name, names, n=1)
            remedy = f"it has {', '.join(names)}" if names else "it has none"
            if close:
                remedy = f"did you mean {close[0]}?"
            problems.append(Problem(what=f"--set {name}: the recipe has no such variable", remedy=remedy))
    return problems


class Uses:
    """Fills variables in where they stand in one file, and remembers which."""

    def __init__(self, variables: Mapping[str, Variable], read: Reader) -> None:
        self._variables = variables
        self._read = read
        self.names: set[str] = set()

    def fill(self, node: Node | None, key: str, *types: VariableType) -> Node | None:
        """The node; for `$name` one that holds the value. None, and a problem, where that can't be."""
        match = _USE.fullmatch(node.value) if node is not None and node.kind == "text" else None
        if node is None or match is None:
            return node
        variable = self._find(match[1], node, key, types)
        if variable is None:
            return None
        return _node(variable.value, node)

    def fill_in(self, text: str, node: Node, key: str, *types: VariableType) -> str | None:
        """The text with the values of all variables in it; texts in quotes stay."""
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
        variable = self._variables.get(name)
        if variable is None:
            close = get_close_matches(name, self._variables, n=1)
            known = (
                f"known are {', '.join(self._variables)}"
                if self._variables
                else "define it under `variables`"
            )
            self._read.add(
                node, f"there is no variable {name[:60]!r}", f"did you mean ${close[0]}?" if close else known
            )
        elif variable.type not in types:
            wanted = " or ".join(_ARTICLES[type_] for type_ in types)
            what = f"${name} is {_ARTICLES[variable.type]} ({variable.origin}), and {key} needs {wanted}"
            self._read.add(node, what, "use another variable, or give it another type")
            variable = None
        return variable


def _plain_type(said: list[Declaration], registry: Registry) -> VariableType | None:
    """The type that a default shows by itself."""
    base = said[-1]
    type_ = _PLAIN_TYPES.get(base.default.kind)
    if type_ is None and base.default.kind == "text" and is_type(base.default.value, registry):
        type_ = "format"
    if type_ is None:
        problem = registry.missing_format(base.default.value) if base.default.kind == "text" else None
        near = (
            f"; as a format: {problem.remedy}"
            if problem and problem.remedy.startswith("did you mean")
            else ""
        )
        base.read.add(
            base.default,
            f"the variable {base.name!r} doesn't say its type{near}",
            f"write {{type: …, default: …}}, with one of {', '.join(VARIABLE_TYPES)}",
        )
    return type_


def _default(said: Declaration, type_: VariableType, registry: Registry) -> str | int | float | bool | None:
    if said.type not in (None, type_):
        what = f"the variable {said.name!r} is {_ARTICLES[type_]} elsewhere in the chain, here {said.type}"
        said.read.add(said.default, what, "give it one type, or another name")
        return None
    return _check(said.default, type_, said.name, said.read, registry)


def _setting(
    name: str, text: str, type_: VariableType, registry: Registry
) -> tuple[str | int | float | bool | None, list[Problem]]:
    node = Node("text", text, 0, 0)
    if type_ in ("number", "bool"):
        kind, value = scalar(text)
        node = Node(kind, value, 0, 0) if kind in ("number", "yes-or-no") else node
    read = Reader("")
    found = _check(node, type_, name, read, registry)
    shown = f"--set {name}={text if len(text) <= 60 else text[:57] + '…'}"
    return found, [
        replace(it, what=f"{shown}: {it.what}", file=None, line=None, column=None) for it in read.problems
    ]


def _check(
    node: Node, type_: VariableType, name: str, read: Reader, registry: Registry
) -> str | int | float | bool | None:
    """The value, if it is of the type."""
    n_problems = len(read.problems)
    try:
        match type_:
            case "format":
                read_type(node, name, read, registry)
            case "number":
                if node.kind != "number":
                    read.add(node, f"{name} must be a number", "write 8, or 0.5")
            case "bool":
                read.yes_no(node, name)
            case "layers":
                if not (node.kind == "number" and isinstance(node.value, int)) and (
                    text := read.text(node, name)
                ):
                    LayerSet.parse(text)
            case "pattern":
                if (text := read.text(node, name)) and not text.startswith(GROUP):
                    Pattern.parse(text)
            case "size":
                if node.kind != "number" and (text := read.text(node, name)):
                    parse_size(text)
            case "text":
                read.text(node, name, line=True)
    except RecipeError as error:
        read.add(node, error.problems[0].what, error.problems[0].remedy)
    if len(read.problems) > n_problems:
        return None
    value = node.value
    assert isinstance(value, str | int | float | bool)
    return str(value) if type_ == "layers" else value


def _node(value: str | int | float | bool, where: Node) -> Node:
    kind: NodeKind = (
        "yes-or-no" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    )
    return Node(kind, value, where.line, where.column)


def _spell(variable: Variable) -> str:
    """The value as it stands in an expression, or among layers."""
    if variable.type == "text":
        return repr(variable.value)
    if (
        isinstance(variable.value, int | float)
        and not isinstance(variable.value, bool)
        and variable.value < 0
    ):
        return f"({variable.value})"
    return str(variable.value)
