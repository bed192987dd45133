"""One recipe file: from its tree of nodes to what it says, with every mistake noted.

The keys are those of `schema.json`, which editors use; a test holds the two together. Checked here and not in
the schema: patterns, layers, expressions, whether formats exist, options, metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from quantrecipe.errors import RecipeError
from quantrecipe.gguf.file_types import FILE_TYPES
from quantrecipe.gguf.values import GGUFValue
from quantrecipe.recipe.definitions import Definitions, expand_group, read_facts, read_groups
from quantrecipe.recipe.document import Node
from quantrecipe.recipe.expression import FACTS, MODEL_FACTS, TENSOR_FACTS, Expression
from quantrecipe.recipe.layers import LayerSet
from quantrecipe.recipe.metadata import read_metadata
from quantrecipe.recipe.options import read_options
from quantrecipe.recipe.pattern import GROUP, Pattern
from quantrecipe.recipe.reader import Reader
from quantrecipe.recipe.recipe import KEEP, KeepEntry, Origin, Rule

if TYPE_CHECKING:
    from quantrecipe.registry import Registry

__all__ = ["FALLBACK_POLICIES", "Inclusion", "RecipePart", "parse_part", "read_extends"]

LANGUAGE_VERSION = 1
FALLBACK_POLICIES = ("error", "chain")
RECIPE_KEYS = (
    "quantrecipe",
    "name",
    "summary",
    "extends",
    "file_type",
    "default",
    "fallback",
    "importance",
    "prune",
    "metadata",
    "groups",
    "facts",
    "rules",
    "keep",
    "budget",
)
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
IMPORTANCE_KEYS = ("file", "uncovered", "required", "include", "exclude")
UNCOVERED = ("error", "warn", "plain")

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Inclusion:
    """The name of another recipe, in `extends` or `keep`."""

    ref: str
    origin: Origin


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipePart:
    """What one file says by itself; None and missing keys: it doesn't say. `definitions`: with its parents'."""

    file: str
    name: str | None = None
    summary: str | None = None
    definitions: Definitions = field(default_factory=Definitions)
    default: str | None = None
    default_origin: Origin | None = None
    fallback: str | None = None
    file_type: str | None = None
    importance: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    prune: LayerSet | None = None
    metadata: Mapping[str, GGUFValue] = field(default_factory=lambda: MappingProxyType({}))
    rules: tuple[Rule, ...] = ()
    keep: tuple[KeepEntry | Inclusion, ...] | None = None


def read_extends(root: Node, reader: Reader) -> tuple[Inclusion, ...]:
    """What a recipe extends: what its parents define has to be known before its rules can be read."""
    entry = root.entries.get("extends") if root.kind == "mapping" else None
    names = reader.texts(entry.value if entry else None, "extends", "the name or path of a recipe")
    return tuple(Inclusion(ref=text, origin=Origin(file=reader.file, line=item.line)) for text, item in names)


def parse_part(
    root: Node, reader: Reader, registry: Registry, *, own: bool, inherited: Definitions
) -> RecipePart:
    """All but `extends`. `inherited` is what its parents define.

    Problems go to the reader; what is returned despite them is only good for finding more.
    """
    return _Parser(reader, registry, own=own, definitions=inherited).part(root)


class _Parser:
    def __init__(self, reader: Reader, registry: Registry, *, own: bool, definitions: Definitions) -> None:
        self._reader = reader
        self._registry = registry
        self._own = own
        self._definitions = definitions

    def part(self, root: Node) -> RecipePart:
        read = self._reader
        keys = read.mapping(root, "a recipe", RECIPE_KEYS)
        if keys is None:
            return RecipePart(file=read.file)
        self._version(root, keys.get("quantrecipe"))
        if budget := keys.get("budget"):
            read.add(
                budget,
                "this version of quantrecipe has no budgets",
                "leave `budget` out, and give each rule a `type`; `quantrecipe plan` shows the size",
            )
        own = Definitions(
            groups=read_groups(keys.get("groups"), read),
            facts=read_facts(keys.get("facts"), read, self._definitions.facts),
        )
        self._definitions = own.over(self._definitions)
        default = keys.get("default")
        return RecipePart(
            file=read.file,
            name=read.text(keys.get("name"), "name", line=True),
            summary=read.text(keys.get("summary"), "summary"),
            definitions=self._definitions,
            default=self._type(default, "default"),
            default_origin=None if default is None else self._origin(default),
            fallback=self._fallback(keys.get("fallback")),
            file_type=read.choice(keys.get("file_type"), "file_type", (*FILE_TYPES, KEEP)),
            importance=self._importance(keys.get("importance")),
            prune=self._layers(keys.get("prune")),
            metadata=read_metadata(keys.get("metadata"), read),
            rules=tuple(filter(None, map(self._rule, read.items(keys.get("rules"), "rules")))),
            keep=self._keep(keys.get("keep")),
        )

    def _version(self, root: Node, node: Node | None) -> None:
        if node is None:
            self._reader.add(
                root, "the key 'quantrecipe' is missing", f"start with `quantrecipe: {LANGUAGE_VERSION}`"
            )
        elif node.value != LANGUAGE_VERSION or node.kind != "number":
            self._reader.add(
                node,
                f"this quantrecipe reads version {LANGUAGE_VERSION} of the recipe language, not {node.plain()!r}",
                f"write `quantrecipe: {LANGUAGE_VERSION}`, or use a newer quantrecipe for a newer recipe",
            )

    def _origin(self, node: Node) -> Origin:
        return Origin(file=self._reader.file, line=node.line)

    def _type(self, node: Node | None, key: str) -> str | None:
        """The name of a format that can encode, or `keep`."""
        name = self._reader.text(node, key, line=True)
        if node is None or not name or name == KEEP:
            return name
        if name.lower() == KEEP:
            self._reader.add(node, f"there is no format {name!r}", "did you mean 'keep'?")
        elif (fmt := self._registry.formats.get(name)) is None:
            problem = self._registry.missing_format(name)
            self._reader.add(node, problem.what, problem.remedy)
        elif not fmt.spec.codec:
            self._reader.add(
                node, f"nothing can be turned into {name}; it only passes through", "use `type: keep`"
            )
        return name

    def _fallback(self, node: Node | None) -> str | None:
        if node is not None and node.value in FALLBACK_POLICIES:
            return cast(str, node.value)
        if node is not None and node.value == KEEP:
            self._reader.add(node, "'keep' is no fallback", "write error, chain, or a format")
            return None
        return self._type(node, "fallback")

    def _importance(self, node: Node | None) -> Mapping[str, Any]:
        read = self._reader
        if node is None:
            return {}
        if node.kind == "text":
            if node.value != "required":
                read.add(
                    node,
                    f"importance: {node.value!r} isn't understood",
                    "write `required`, or {file: imatrix.gguf}",
                )
            return {"required": True}
        keys = read.mapping(node, "importance", IMPORTANCE_KEYS)
        if keys is None:
            return {}
        said = {
            "file": read.text(keys.get("file"), "file", line=True),
            "uncovered": read.choice(keys.get("uncovered"), "uncovered", UNCOVERED),
            "required": self._required(keys.get("required")),
            "include": self._part_names(keys.get("include"), "include"),
            "exclude": self._part_names(keys.get("exclude"), "exclude"),
        }
        return {key: value for key, value in said.items() if value is not None}

    def _part_names(self, node: Node | None, key: str) -> tuple[str, ...] | None:
        """Texts that names of entries are searched for."""
        if node is None:
            return None
        return tuple(text for text, _ in self._reader.texts(node, key, "a part of a tensor's name"))

    def _required(self, node: Node | None) -> bool | tuple[str, ...] | None:
        """True, False, or the types that need importance."""
        if node is None or node.kind != "list":
            return self._reader.yes_no(node, "required")
        types = [self._type(item, "required") for item in node.items]
        for type_, item in zip(types, node.items, strict=True):
            if type_ == KEEP:
                self._reader.add(item, "'keep' needs no importance", "list formats")
        return tuple(sorted({type_ for type_ in types if type_ is not None}))

    def _rule(self, node: Node) -> Rule | None:
        read = self._reader
        keys = read.mapping(node, "a rule", RULE_KEYS)
        if keys is None:
            return None
        tensors = self._tensors(node, keys.get("tensors"), "this rule")
        if choose := keys.get("choose"):
            read.add(
                choose,
                "this version of quantrecipe can't choose among types",
                "write one `type` instead of `choose`",
            )
        elif "type" not in keys:
            read.add(node, "this rule has no `type`", "name a format, or `keep`")
        type_ = self._type(keys.get("type"), "type")
        return Rule(
            tensors=tensors,
            type=type_ or KEEP,
            origin=self._origin(node),
            own=not read.yes_no(keys.get("inherited"), "inherited") and self._own,
            layers=self._layers(keys.get("layers")),
            when=self._when(keys.get("when"), FACTS),
            options=read_options(keys.get("options"), type_, self._registry.formats, read),
            fallback=self._fallback(keys.get("fallback")),
            why=read.text(keys.get("why"), "why") or "",
            optional=read.yes_no(keys.get("optional"), "optional") or False,
        )

    def _tensors(self, parent: Node, node: Node | None, what: str) -> tuple[Pattern, ...]:
        if node is None:
            self._reader.add(
                parent, f"{what} has no `tensors`", "name the tensors that it is about: attn_v, or '*'"
            )
            return ()
        texts = self._reader.texts(node, "tensors", "a pattern")
        if node.kind == "list" and not node.items:
            self._reader.add(node, "the list `tensors` is empty", "name the tensors: attn_v, or '*'")
        found = (self._try(item, partial(self._patterns, text)) for text, item in texts)
        return tuple(pattern for patterns in found if patterns for pattern in patterns)

    def _patterns(self, text: str) -> tuple[Pattern, ...]:
        if text.startswith(GROUP):
            return expand_group(text, self._definitions.groups)
        return (Pattern.parse(text),)

    def _layers(self, node: Node | None) -> LayerSet | None:
        if node is None:
            return None
        if node.kind == "number" and isinstance(node.value, int):
            text: str | None = str(node.value)  # one layer needs no quotes
        elif node.kind == "list":
            self._reader.add(
                node, "layers must be one text, not a list", 'write them into one text: "0, 4-7, last 4"'
            )
            return None
        else:
            text = self._reader.text(node, "layers")
        return None if text is None else self._try(node, partial(LayerSet.parse, text))

    def _when(self, node: Node | None, facts: Mapping[str, Any]) -> Expression | None:
        if node is not None and node.kind == "yes-or-no":
            text: str | None = str(node.value)
        else:
            text = self._reader.text(node, "when")
        if node is None or text is None:
            return None
        expression = self._try(node, partial(Expression.parse, text, facts, self._definitions.facts))
        if expression and expression.kind != "a yes-or-no":
            self._reader.add(
                node,
                f"`when` is true or false, but {text!r} is {expression.kind}",
                "compare it with something",
            )
        return expression

    def _keep(self, node: Node | None) -> tuple[KeepEntry | Inclusion, ...] | None:
        if node is None:
            return None
        items: list[KeepEntry | Inclusion] = []
        for item in self._reader.items(node, "keep"):
            if item.kind == "text":
                items.append(Inclusion(ref=item.value, origin=self._origin(item)))
            elif (keys := self._reader.mapping(item, "an entry of the kept list", KEEP_KEYS)) is not None:
                items.append(
                    KeepEntry(
                        tensors=self._tensors(item, keys.get("tensors"), "this entry"),
                        origin=self._origin(item),
                        when=self._when(keys.get("when"), {**MODEL_FACTS, **TENSOR_FACTS}),
                        why=self._reader.text(keys.get("why"), "why") or "",
                    )
                )
        return tuple(items)

    def _try(self, node: Node, parse: Callable[[], _T]) -> _T | None:
        """What `parse` gives; its error becomes a problem at this node."""
        try:
            return parse()
        except RecipeError as error:
            for problem in error.problems:
                self._reader.add(node, problem.what, problem.remedy)
            return None
