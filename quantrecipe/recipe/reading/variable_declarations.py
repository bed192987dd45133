"""The key `variables`: its declarations, and what becomes of them along a chain of recipes.

One name is one variable in a recipe and all that it extends. A setting (`--set experts=IQ2_S`) decides its value,
else the first default in the chain: a child's replaces its parent's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from quantrecipe.errors import Problem
from quantrecipe.recipe.origin import Origin
from quantrecipe.recipe.reading.node_reader import Reader
from quantrecipe.recipe.reading.value_slots import is_type, read_type
from quantrecipe.recipe.reading.variables import VARIABLE_TYPES, Value, Variable, VariableType, kind_text
from quantrecipe.recipe.reading.yaml_document import Node, NodeKind, scalar
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.recipe.terms.pattern import GROUP, Pattern
from quantrecipe.units import require_size
from quantrecipe.wording import closest, listed, shortened

if TYPE_CHECKING:
    from quantrecipe.registry import Registry

__all__ = ["VARIABLE_KEYS", "Declaration", "bind", "read_variables", "unknown_settings"]

VARIABLE_KEYS = ("type", "default", "why")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}", re.ASCII)
_PLAIN_TYPES: Mapping[NodeKind, VariableType] = MappingProxyType({"number": "number", "yes-or-no": "bool"})


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
    """Read the key `variables` of one file. `bind` compares types and defaults with those of other files."""
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
    """Return the variables of a recipe, in the order of the chain, and what is wrong with the settings.

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
    """Return a problem for each setting of a variable that the recipe doesn't have."""
    names = dict.fromkeys(known)
    problems = []
    for name in settings:
        if name not in names:
            close = closest(name, names)
            remedy = f"it has {listed(names)}" if names else "it has none"
            if close:
                remedy = f"did you mean {close}?"
            problems.append(Problem(what=f"--set {name}: the recipe has no such variable", remedy=remedy))
    return problems


def _plain_type(said: list[Declaration], registry: Registry) -> VariableType | None:
    """Return the type that a default has by itself, if that is plain."""
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


def _default(said: Declaration, type_: VariableType, registry: Registry) -> Value | None:
    if said.type not in (None, type_):
        what = f"the variable {said.name!r} is {kind_text(type_)} elsewhere in the chain, here {said.type}"
        said.read.add(said.default, what, "give it one type, or another name")
        return None
    return _check(said.default, type_, said.name, said.read, registry)


def _setting(
    name: str, text: str, type_: VariableType, registry: Registry
) -> tuple[Value | None, list[Problem]]:
    node = Node("text", text, 0, 0)
    if type_ in ("number", "bool"):
        kind, value = scalar(text)
        node = Node(kind, value, 0, 0) if kind in ("number", "yes-or-no") else node
    read = Reader("")
    found = _check(node, type_, name, read, registry)
    shown = f"--set {name}={shortened(text)}"
    return found, [
        replace(it, what=f"{shown}: {it.what}", file=None, line=None, column=None) for it in read.problems
    ]


def _check(node: Node, type_: VariableType, name: str, read: Reader, registry: Registry) -> Value | None:
    """Return the value if it is of the type; else note a problem, and return None."""
    n_problems = len(read.problems)
    match type_:
        case "format":
            read_type(node, name, read, registry)
        case "number" if node.kind != "number":
            read.add(node, f"{name} must be a number", "write 8, or 0.5")
        case "bool":
            read.yes_no(node, name)
        case "layers" if not isinstance(node.value, int) or node.kind != "number":
            if text := read.text(node, name):
                read.attempt(node, partial(LayerSet.parse, text))
        case "pattern":
            if (text := read.text(node, name)) and not text.startswith(GROUP):
                read.attempt(node, partial(Pattern.parse, text))
        case "size" if node.kind != "number":
            if text := read.text(node, name):
                read.attempt(node, partial(require_size, text))
        case "text":
            read.text(node, name, line=True)
    if len(read.problems) > n_problems:
        return None
    value: Value = node.value
    return str(value) if type_ == "layers" else value
