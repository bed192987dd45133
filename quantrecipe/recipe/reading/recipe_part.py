"""One recipe file: from its tree of nodes to what it says, with every mistake noted.

The keys are those of `schema.json`, which editors use; a test holds the two together. Checked here and not in
the schema: patterns, layers, expressions, whether formats exist, options, metadata, variables, requirements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from quantrecipe.gguf.file_types import FILE_TYPES
from quantrecipe.gguf.values import GGUFValue
from quantrecipe.recipe.budget import Budget, read_budget
from quantrecipe.recipe.metadata import read_metadata
from quantrecipe.recipe.reading.groups_and_facts import Definitions, read_facts, read_groups
from quantrecipe.recipe.reading.named_options import read_encoder
from quantrecipe.recipe.reading.requirements import read_requires
from quantrecipe.recipe.reading.rule_items import Inclusion, read_protected, read_rule
from quantrecipe.recipe.reading.value_slots import Slots
from quantrecipe.recipe.reading.variable_declarations import Declaration, read_variables
from quantrecipe.recipe.recipe import IF_TRUE, KEEP, EncoderChoice, KeepEntry, Origin, Rule
from quantrecipe.recipe.target import Target, read_target
from quantrecipe.recipe.terms.layers import LayerSet

if TYPE_CHECKING:
    from quantrecipe.recipe.reading.node_reader import Reader
    from quantrecipe.recipe.reading.variables import Uses
    from quantrecipe.recipe.reading.yaml_document import Node
    from quantrecipe.registry import Registry

__all__ = [
    "IMPORTANCE_KEYS",
    "LABELS",
    "RECIPE_KEYS",
    "UNCOVERED",
    "RecipePart",
    "parse_part",
    "read_extends",
    "read_own",
]

LANGUAGE_VERSION = 1
RECIPE_KEYS = (
    "quantrecipe", "name", "summary", "extends", "requires", "target", "file_type", "default", "fallback",
    "importance", "encoder", "budget", "prune", "metadata", "variables", "groups", "facts", "rules", "protect", "keep",
)  # fmt: skip
"""The keys of a recipe, in the order in which messages and the reference list them."""
IMPORTANCE_KEYS = ("file", "uncovered", "required", "include", "exclude")
UNCOVERED = ("error", "warn", "plain")
LABELS = tuple(f"{name}{ending}" for ending in ("", IF_TRUE) for name in (*FILE_TYPES, KEEP))


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipePart:
    """What one file says by itself, or a program instead of a file. What it doesn't say is None or empty.

    `definitions` are those that its rules may use: its own, and its parents'.
    """

    file: str = "recipe.yaml"
    extends: tuple[Inclusion, ...] = ()
    name: str | None = None
    summary: str | None = None
    requires: tuple[str, ...] = ()
    target: Target | None = None
    definitions: Definitions = field(default_factory=Definitions)
    default: str | None = None
    default_origin: Origin | None = None
    fallback: str | None = None
    file_type: str | None = None
    file_type_fixed: bool = True
    file_type_origin: Origin | None = None
    importance: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    encoder: EncoderChoice | None = None
    budget: Budget | None = None
    prune: LayerSet | None = None
    metadata: Mapping[str, GGUFValue] = field(default_factory=lambda: MappingProxyType({}))
    rules: tuple[Rule, ...] = ()
    keep: tuple[KeepEntry | Inclusion, ...] | None = None


def read_extends(root: Node, reader: Reader) -> tuple[Inclusion, ...]:
    """Read what a recipe extends: what its parents define has to be known before its rules can be read."""
    names = reader.texts(_value(root, "extends"), "extends", "the name or path of a recipe")
    return tuple(Inclusion(ref=text, origin=Origin(file=reader.file, line=item.line)) for text, item in names)


def read_own(root: Node, reader: Reader) -> tuple[Declaration, ...]:
    """Read the variables that a recipe gives, for its parents' rules are read with their values, too."""
    return read_variables(_value(root, "variables"), reader)


def parse_part(
    root: Node,
    reader: Reader,
    registry: Registry,
    *,
    own: bool,
    extends: tuple[Inclusion, ...],
    inherited: Definitions,
    uses: Uses,
) -> RecipePart:
    """Parse all keys but `variables`. `inherited` is what its parents define; `uses` fills in the variables.

    Problems go to the reader; what is returned despite them is only good for finding more.
    """
    keys = reader.mapping(root, "a recipe", RECIPE_KEYS)
    if keys is None:
        return RecipePart(file=reader.file)
    _check_version(root, keys.get("quantrecipe"), reader)
    slots = Slots(reader, registry, uses, inherited)
    facts = read_facts(keys.get("facts"), slots, inherited.facts)
    definitions = Definitions(groups=read_groups(keys.get("groups"), reader), facts=facts).over(inherited)
    slots = Slots(reader, registry, uses, definitions)
    default = keys.get("default")
    rules = (read_rule(item, slots, own=own) for item in reader.items(keys.get("rules"), "rules"))
    file_type = reader.choice(keys.get("file_type"), "file_type", LABELS)
    return RecipePart(
        file=reader.file,
        extends=extends,
        name=reader.text(keys.get("name"), "name", line=True),
        summary=reader.text(keys.get("summary"), "summary"),
        requires=read_requires(keys.get("requires"), reader, registry),
        target=read_target(keys.get("target"), reader),
        definitions=definitions,
        default=slots.type(default, "default"),
        default_origin=None if default is None else slots.origin(default),
        fallback=slots.fallback(keys.get("fallback")),
        file_type=None if file_type is None else file_type.removesuffix(IF_TRUE),
        file_type_fixed=file_type is None or not file_type.endswith(IF_TRUE),
        file_type_origin=None if file_type is None else slots.origin(keys["file_type"]),
        importance=_importance(keys.get("importance"), slots),
        encoder=read_encoder(keys.get("encoder"), slots),
        budget=read_budget(keys.get("budget"), slots),
        prune=slots.layers(keys.get("prune"), "prune"),
        metadata=read_metadata(keys.get("metadata"), reader),
        rules=tuple(rule for rule in rules if rule is not None),
        keep=read_protected(*_protected(root, keys, reader), slots),
    )


def _value(root: Node, key: str) -> Node | None:
    entry = root.entries.get(key) if root.kind == "mapping" else None
    return entry.value if entry else None


def _protected(root: Node, keys: Mapping[str, Node], reader: Reader) -> tuple[str, Node | None]:
    """Return the list `protect`, and the name that it has here: formerly it was called `keep`."""
    if "protect" in keys and "keep" in keys:
        reader.add(
            root.entries["keep"].key,
            "'keep' is the former name of 'protect', and this recipe has both",
            "put all entries under `protect`",
        )
    key = "keep" if "keep" in keys and "protect" not in keys else "protect"
    return key, keys.get(key)


def _check_version(root: Node, node: Node | None, read: Reader) -> None:
    if node is None:
        read.add(root, "the key 'quantrecipe' is missing", f"start with `quantrecipe: {LANGUAGE_VERSION}`")
    elif node.value != LANGUAGE_VERSION or node.kind != "number":
        read.add(
            node,
            f"this quantrecipe reads version {LANGUAGE_VERSION} of the recipe language, not {node.plain()!r}",
            f"write `quantrecipe: {LANGUAGE_VERSION}`, or use a newer quantrecipe for a newer recipe",
        )


def _importance(node: Node | None, slots: Slots) -> Mapping[str, Any]:
    read = slots.read
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
        "required": _required(keys.get("required"), slots),
        "include": _part_names(keys.get("include"), "include", read),
        "exclude": _part_names(keys.get("exclude"), "exclude", read),
    }
    return {key: value for key, value in said.items() if value is not None}


def _part_names(node: Node | None, key: str, read: Reader) -> tuple[str, ...] | None:
    """Read texts that are looked for in the names of entries."""
    if node is None:
        return None
    return tuple(text for text, _ in read.texts(node, key, "a part of a tensor's name"))


def _required(node: Node | None, slots: Slots) -> bool | tuple[str, ...] | None:
    """Read the key `required`: true, false, or the types that need importance."""
    if node is None or node.kind != "list":
        return slots.read.yes_no(node, "required")
    types = [slots.type(item, "required") for item in node.items]
    for type_, item in zip(types, node.items, strict=True):
        if type_ == KEEP:
            slots.read.add(item, "'keep' needs no importance", "list formats")
    return tuple(sorted({type_ for type_ in types if type_ is not None}))
