"""Recipe and Rule: what a recipe says, as frozen values. Files become these in `load`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from quantrecipe.errors import Problem
from quantrecipe.gguf.values import GGUFValue
from quantrecipe.notebook import Shown
from quantrecipe.recipe.budget import Budget, VramBudget
from quantrecipe.recipe.origin import NOWHERE, Origin
from quantrecipe.recipe.reading.variables import Variable
from quantrecipe.recipe.target import Target
from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.recipe.terms.pattern import Pattern

__all__ = [
    "IF_TRUE",
    "KEEP",
    "Budget",
    "EncoderChoice",
    "ImportanceSource",
    "KeepEntry",
    "Origin",
    "Recipe",
    "Rule",
    "Target",
    "Variable",
    "VramBudget",
]


KEEP = "keep"
"""The type that means: as the source has it."""

IF_TRUE = " if true"
"""Behind a file_type: it holds where the types bear it out. What parents say means that, once rules are added; so a
recipe that is written down with its parents merged in still does what it did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderChoice:
    """The encoder that makes the bytes, by name, with the options that differ from its defaults.

    except_layers: where each format makes its bytes by itself all the same
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    except_layers: LayerSet | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """The first rule that matches a tensor decides its type.

    A tensor matches when any pattern of `tensors` does, its layer is in `layers` (if given), and `when` (if
    given) is true of it. `own` is True for rules of the file that the user gave, False for inherited ones.
    `fallback` and `encoder` are None where the recipe's own apply. `optional` allows a rule that finds nothing to do.

    A rule has a `type`, or leaves the choice among `choose` to the optimiser; then `type` is "".

    Where it comes from: `through` has the places of the `extends` that led here, the user's own file first;
    `groups` the names under which the recipe had some of `tensors`.
    """

    tensors: tuple[Pattern, ...]
    type: str
    origin: Origin
    own: bool
    layers: LayerSet | None = None
    when: Expression | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    encoder: EncoderChoice | None = None
    fallback: str | None = None
    why: str = ""
    optional: bool = False
    choose: tuple[str, ...] = ()
    through: tuple[Origin, ...] = ()
    groups: Mapping[str, tuple[Pattern, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(
        cls, tensors: Sequence[str], *, layers: str | None = None, when: Expression | None = None, **keys: Any
    ) -> Rule:
        """Make a rule from texts as a recipe has them. It has no place before `write_recipe` has written it."""
        return cls(
            tensors=tuple(map(Pattern.parse, tensors)),
            layers=LayerSet.parse(layers) if layers else None,
            when=when,
            origin=NOWHERE,
            own=True,
            **{"type": "", **keys},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class KeepEntry:
    """Tensors that `default` and wildcard patterns leave alone, while `when` (if given) holds.

    `when` asks for no `rank` and `count`, which are counted among the tensors that the kept list leaves.
    """

    tensors: tuple[Pattern, ...]
    origin: Origin
    when: Expression | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportanceSource:
    """Which importance matrix, and what to do about tensors that it doesn't cover.

    file:      resolved against the folder of the recipe that names it; None where the recipe only demands one
    uncovered: "error" refuses, "warn" goes on without importance and says so, "plain" goes on silently
    required:  True where the recipe makes no sense without an importance matrix
    required_for: types that no tensor gets without importance; token embeddings and `output` excepted
    include:   only entries whose names contain one of these texts count; all if there are none
    exclude:   entries whose names contain one of these texts don't count
    """

    file: Path | None = None
    uncovered: Literal["error", "warn", "plain"] = "warn"
    required: bool = False
    required_for: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def demand(self) -> bool | list[str]:
        """What the key `required` says: the types that need importance, or whether the recipe does."""
        return list(self.required_for) or self.required


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A whole recipe, parents included; its types are formats that the registry has.

    rules:     own rules first, then each parent's in the order of `extends`
    default:   type of the quantizable matrices that no rule decides; None keeps them
    keep:      the kept list: what recipes have under `protect`
    fallback:  "error", "chain", or a type
    encoder:   what makes the bytes, where a rule says nothing else; None: each format by itself
    file_type: what the file says it mostly is ("Q4_K_M"); "keep": what the source says; None derives it from the types
    file_type_fixed: False where it only holds if it is true of the types: a parent says it, and the recipe has rules
    prune:     layers to leave out; the others are numbered anew
    metadata:  values to set in the output's metadata, by key
    target:    where the file is meant to run; None: anywhere
    budget:    what the types of `choose` rules have to fit in
    requires:  the packages that it needs, as in PEP 508; they are there
    variables: by name, with the values that hold; everything else has them filled in
    text:      the source of the recipe, parents flattened in: what is recorded in the output
    digest:    XXH3-128 of what the recipe means, in hex; comments and layout don't change it
    notes:     what names were taken for, where that isn't plain: "'Q4_K_M' is llama.cpp/Q4_K_M, which ships"
    """

    name: str
    file: str
    rules: tuple[Rule, ...]
    keep: tuple[KeepEntry, ...]
    summary: str = ""
    default: str | None = None
    default_origin: Origin | None = None
    fallback: str = "chain"
    importance: ImportanceSource = ImportanceSource()
    encoder: EncoderChoice | None = None
    file_type: str | None = None
    file_type_fixed: bool = True
    file_type_origin: Origin | None = None
    prune: LayerSet | None = None
    metadata: Mapping[str, GGUFValue] = field(default_factory=lambda: MappingProxyType({}))
    target: Target | None = None
    budget: Budget | None = None
    requires: tuple[str, ...] = ()
    variables: Mapping[str, Variable] = field(default_factory=lambda: MappingProxyType({}))
    text: str = ""
    digest: str = ""
    notes: tuple[Problem, ...] = ()

    def __repr__(self) -> str:
        """A line: with its parents' rules, a recipe has dozens."""
        return f"<Recipe {self.name!r}: {len(self.rules)} rules, default {self.default or KEEP}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: a line for each rule, those of the parents, too."""
        return self._shown().html()

    def __rich__(self) -> Shown:
        """What rich prints: the same."""
        return self._shown()

    def _shown(self) -> Shown:
        rows = [
            (
                ", ".join(map(str, rule.tensors)),
                "" if rule.layers is None else str(rule.layers),
                "" if rule.when is None else str(rule.when),
                rule.type or ", ".join(rule.choose),
                rule.why,
                f"{rule.origin.file}:{rule.origin.line}",
            )
            for rule in self.rules
        ]
        headings = ("tensors", "layers", "when", "type", "why", "from")
        return Shown(
            title=repr(self)[1:-1],
            headings=headings,
            rows=rows,
            texts=("tensors", "layers", "when", "why"),
            extra=("from",),
        )

    @property
    def stands_alone(self) -> bool:
        """False for a part that only others are made of: it leaves most tensors as they are, on every model."""
        return self.default is not None or any(
            str(pattern) == "*" and rule.layers is None for rule in self.rules for pattern in rule.tensors
        )

    @property
    def label(self) -> str | None:
        """What the key `file_type` says of the recipe with its parents merged in."""
        if self.file_type is None or self.file_type_fixed:
            return self.file_type
        return f"{self.file_type}{IF_TRUE}"

    @property
    def says_its_default(self) -> bool:
        """False where the default, if there is one, is inherited."""
        return self.default_origin is not None and self.default_origin.file == self.file
