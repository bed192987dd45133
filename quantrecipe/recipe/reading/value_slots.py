"""Slots: the values that stand in several places of a recipe: types, patterns, layers, expressions.

Wherever one may be a variable, it is filled in here, so that nothing behind the parser knows of variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from quantrecipe.recipe.origin import Origin
from quantrecipe.recipe.reading.groups_and_facts import Definitions, expand_group
from quantrecipe.recipe.reading.node_reader import Reader
from quantrecipe.recipe.reading.variables import Uses, VariableType
from quantrecipe.recipe.reading.yaml_document import Node
from quantrecipe.recipe.recipe import KEEP
from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.recipe.terms.pattern import GROUP, Pattern

if TYPE_CHECKING:
    from quantrecipe.registry import Registry

__all__ = ["FALLBACK_POLICIES", "Slots", "is_type", "read_type"]

FALLBACK_POLICIES = ("error", "chain")

_IN_EXPRESSIONS: tuple[VariableType, ...] = ("number", "text", "bool")


class Slots:
    """Reads values of one file. Each method returns None, or nothing, for a node that is None or wrong."""

    def __init__(self, read: Reader, registry: Registry, uses: Uses, definitions: Definitions) -> None:
        self.read = read
        self.registry = registry
        self.uses = uses
        self.definitions = definitions

    def origin(self, node: Node) -> Origin:
        """Say where a node stands."""
        return Origin(file=self.read.file, line=node.line)

    def type(self, node: Node | None, key: str) -> str | None:
        """Return the name of a format that can encode, or `keep`."""
        return read_type(self.uses.fill(node, key, "format"), key, self.read, self.registry)

    def choose(self, node: Node | None) -> tuple[str, ...]:
        """Return formats to choose from, each once."""
        if node is None:
            return ()
        items = self.read.items(node, "choose")
        if node.kind == "list" and not items:
            self.read.add(node, "the list `choose` is empty", "name the formats to choose from")
        written = [item.value for item in items if item.kind == "text"]
        for index, item in enumerate(items):
            if item.value == KEEP:
                self.read.add(
                    item, "'keep' can't be chosen", "name formats; F16 or BF16 to leave a model as it is"
                )
            elif item.kind == "text" and item.value in written[:index]:
                self.read.add(item, f"{item.value!r} stands twice in `choose`", "name each format once")
        found = [self.type(item, "choose") for item in items]
        return tuple(dict.fromkeys(name for name in found if name is not None))

    def fallback(self, node: Node | None) -> str | None:
        """Return `error`, `chain`, or the name of a format."""
        node = self.uses.fill(node, "fallback", "format")
        if node is not None and node.value in FALLBACK_POLICIES:
            return cast(str, node.value)
        if node is not None and node.value == KEEP:
            self.read.add(node, "'keep' is no fallback", "write error, chain, or a format")
            return None
        return read_type(node, "fallback", self.read, self.registry)

    def patterns(self, node: Node, key: str) -> tuple[Pattern, ...]:
        """Return the patterns of one text or a list, with groups written out."""
        if node.kind == "list" and not node.items:
            self.read.add(node, f"the list `{key}` is empty", "name the tensors: attn_v, or '*'")
        texts = self.read.texts(node, key, "a pattern")
        filled = [(self.uses.fill(item, key, "pattern"), item) for _, item in texts]
        found: list[Pattern] = []
        for it, item in filled:
            patterns = None if it is None else self.read.attempt(item, partial(self._pattern, it.value))
            self.read.spend(item.line, sum(pattern.cost for pattern in patterns or ()))
            found += patterns or ()
        return tuple(found)

    def groups(self, node: Node | None) -> Mapping[str, tuple[Pattern, ...]]:
        """Return the groups that a pattern or a list of patterns names."""
        if node is None or node.kind not in ("text", "list"):
            return MappingProxyType({})
        items = node.items if node.kind == "list" else (node,)
        texts = [item.value for item in items if item.kind == "text" and item.value.startswith(GROUP)]
        names = [text.removeprefix(GROUP) for text in texts]
        return MappingProxyType(
            {name: self.definitions.groups[name] for name in names if name in self.definitions.groups}
        )

    def _pattern(self, text: str) -> tuple[Pattern, ...]:
        if text.startswith(GROUP):
            return expand_group(text, self.definitions.groups)
        return (Pattern.parse(text),)

    def layers(self, node: Node | None, key: str = "layers") -> LayerSet | None:
        """Return a set of layers."""
        if node is None:
            return None
        if node.kind == "number" and isinstance(node.value, int):
            text: str | None = str(node.value)  # one layer needs no quotes
        elif node.kind == "list":
            self.read.add(
                node, f"{key} must be one text, not a list", 'write them into one text: "0, 4-7, last 4"'
            )
            return None
        else:
            text = self.read.text(node, key)
        if text is not None:
            text = self.uses.fill_in(text, node, key, "layers", "number")
        layers = None if text is None else self.read.attempt(node, partial(LayerSet.parse, text))
        self.read.spend(node.line, layers.cost if layers else 0)
        return layers

    def when(self, node: Node | None, facts: Mapping[str, Any]) -> Expression | None:
        """Return an expression that is true or false."""
        text = self.expression_text(node, "when")
        if node is None or text is None:
            return None
        expression = self.read.attempt(node, partial(Expression.parse, text, facts, self.definitions.facts))
        self.read.spend(node.line, expression.cost if expression else 0)
        if expression and expression.kind != "a yes-or-no":
            self.read.add(
                node,
                f"`when` is true or false, but {text!r} is {expression.kind}",
                "compare it with something",
            )
        return expression

    def expression_text(self, node: Node | None, key: str) -> str | None:
        """Return the text of a `when` or a fact, with variables filled in."""
        if node is not None and (node.kind == "yes-or-no" or (node.kind == "number" and key != "when")):
            return str(node.value)
        text = self.read.text(node, key)
        if node is None or text is None:
            return None
        return self.uses.fill_in(text, node, key, *_IN_EXPRESSIONS)


def is_type(name: str, registry: Registry) -> bool:
    """Say whether a name is that of a format that can encode, or `keep`."""
    return name == KEEP or (name in registry.formats and registry.formats[name].spec.codec)


def read_type(node: Node | None, key: str, read: Reader, registry: Registry) -> str | None:
    """Return the name; if there is no such type, note a problem that says what to do."""
    name = read.text(node, key, line=True)
    if node is None or not name or name == KEEP:
        return name
    if name.lower() == KEEP:
        read.add(node, f"there is no format {name!r}", "did you mean 'keep'?", "QR003")
    elif (fmt := registry.formats.get(name)) is None:
        problem = registry.missing_format(name)
        read.add(node, problem.what, problem.remedy, "QR003")
    elif not fmt.spec.codec:
        read.add(node, f"nothing can be turned into {name}; it only passes through", "use `type: keep`")
    return name
