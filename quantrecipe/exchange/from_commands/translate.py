"""From `regex=type` to rules: expressions become patterns and layers where these say the same.

    ^blk\\.([3-9]|1[0-9])\\.ffn_(gate|up)_exps\\.weight$=iq2_xs     tensors: "ffn_{gate,up}_exps", layers: 3-19

Where an expression isn't anchored, or is a wilder one, it stays as it is (`regex:…`), unless a model is given on
which both name the same tensors.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.from_commands.named_list import joined_lines, names_tensors
from quantrecipe.exchange.from_commands.overrides import Override, TypeName, checked_types
from quantrecipe.exchange.source import Source
from quantrecipe.plan.assign import FLOATS
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import Rule
from quantrecipe.recipe.terms.pattern import Pattern
from quantrecipe.recipe.terms.regex import Regex
from quantrecipe.recipe.writing.braces import braced, is_plain
from quantrecipe.recipe.writing.layer_items import layer_items, layer_texts
from quantrecipe.recipe.writing.summarise import summarise
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["Translation", "translate"]

_IN_BLOCKS = re.compile(
    r"(?P<start>\^?)blk(?P<dot>\\?\.)(?P<layers>.+?)\\?\.(?P<roles>[\w()|.\\]+?)(?P<end>\\?\.(?:weight|bias)\$?)?"
)
_OUTSIDE = re.compile(r"(?P<start>\^?)(?P<roles>[\w()|.\\]+?)(?P<end>\\?\.weight\$?)")
_ANY_NUMBER = (r"\d+", "[0-9]+", r"(\d+)", "([0-9]+)")
_ANYTHING = (".*", ".+", r"\d*", "(.*)", "(.+)")
_NEVER = "{tool} never quantizes what it names"
_MOST_LAYERS = 1000
"""Numbers that an expression is tried on; no model has as many layers."""
_MOST_RANGES = 100
"""An expression with more, such as that of even numbers, says more than a list of layers could."""
_MOST_PATTERNS = 6
"""More of them are harder to read than a regular expression."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation:
    """What a list became: rules, in order; packages that their types need; notes on what was left out or changed."""

    rules: tuple[Rule, ...]
    packages: tuple[str, ...]
    notes: tuple[str, ...]


def translate(
    overrides: Sequence[Override], registry: Registry, source: Source | None, *, tool: str, file: str
) -> Translation:
    """Make rules of a list; with a model, those that would do nothing there are left out.

    RecipeError with every override whose expression or type isn't understood.
    """
    scope = _Scope(registry, source)
    types = checked_types(overrides, registry, file)
    notes: list[str] = list(dict.fromkeys(it.note for it in types.values() if it.note))
    packages: set[str] = set()
    lines: list[tuple[Rule, tuple[str, ...]]] = []
    taken: set[str] = set()
    wanted: list[Override] = []
    for override in overrides:
        shown = f"{override.regex}={override.type}"
        type_ = types[override.type]
        regex = Regex.parse(override.regex)
        neat = _neat(override.regex)
        reason = scope.useless(regex, neat, taken)
        if reason == _NEVER and type_.name in FLOATS:
            continue  # as it is in the source
        if reason:
            notes.append(f"{shown} is left out: {reason.format(tool=tool)}")
            continue
        if type_.package:
            packages.add(type_.package)
        wanted.append(override)
        if source is not None:
            draft = Rule.of([f"regex:{override.regex}"], type=type_.name, why=override.why)
            lines.append((scope.said_neatly(regex, taken, draft, source), ()))
            taken |= scope.named(regex)
    if source is None:
        joined = joined_lines(wanted, types) if names_tensors(wanted) else wanted
        lines = [(it, ()) if isinstance(it, Rule) else _alone(it, types) for it in joined]
        if len(joined) < len(wanted):
            notes.append(
                f"the {len(wanted)} lines of the list name tensors one by one, and are summarised as far as names "
                "tell; --model MODEL makes of them what it makes of a GGUF with these types"
            )
    return Translation(rules=tuple(_joined(lines)), packages=tuple(sorted(packages)), notes=tuple(notes))


def _alone(override: Override, types: Mapping[str, TypeName]) -> tuple[Rule, tuple[str, ...]]:
    """Return a line as a rule, with the roles that it names; there is no model to look at."""
    type_ = types[override.type].name
    draft = Rule.of([f"regex:{override.regex}"], type=type_, why=override.why)
    neat = _neat(override.regex)
    if neat is None or not neat.exact:
        return draft, ()
    return Rule.of(braced(neat.roles), layers=_layers(neat), type=type_, why=override.why), neat.roles


@dataclass(frozen=True, kw_only=True, slots=True)
class _Neat:
    """What an expression names: roles in some layers (None: in all), or outside the blocks.

    exact: True if patterns and layers say the same on every model
    """

    roles: tuple[str, ...]
    layers: frozenset[int] | None
    in_blocks: bool
    exact: bool


class _Scope:
    """What the tool quantizes: of a model's tensors, or of roles in general."""

    def __init__(self, registry: Registry, source: Source | None) -> None:
        self._kept = load_recipe("llama.cpp/kept", registry=registry).keep
        self._source = source
        self._reached = frozenset[str]() if source is None else source.reached

    def named(self, regex: Regex) -> set[str]:
        """Return the tensors of the model that the expression names, and the tool would quantize."""
        return {name for name in self._reached if regex.search(name)}

    def useless(self, regex: Regex, neat: _Neat | None, taken: Collection[str]) -> str:
        """Say why an override does nothing; "" if it does something."""
        if self._source is not None:
            named = self.named(regex)
            if not named and any(regex.search(tensor.name) for tensor in self._source.tensors):
                return _NEVER
            if not named:
                return "it names no tensor of this model"
            return "" if named - set(taken) else "overrides before it take all of its tensors"
        if neat is not None and neat.roles and all(map(self._never, neat.roles)):
            return _NEVER
        return ""

    def said_neatly(self, regex: Regex, taken: Collection[str], draft: Rule, source: Source) -> Rule:
        """Return the rule with patterns and layers, if one rule says it; it may name tensors that are taken, or not."""
        named = self.named(regex)
        for names in (named - set(taken), named):
            types = dict.fromkeys(names, draft.type)
            rules = summarise(types, source.tensors, source.model.n_layers)
            if len(rules) == 1 and len(rules[0].tensors) <= _MOST_PATTERNS:
                rule = rules[0]
                return replace(draft, tensors=rule.tensors, layers=rule.layers, when=rule.when)
        return draft

    def _never(self, role: str) -> bool:
        """Say whether no tool quantizes a role, on any model."""
        if role.endswith((".bias", ".scale")):
            return True
        tensor = TensorInfo.from_name(f"blk.0.{role}.weight", (2, 2), "F32")
        return any(
            pattern.matches(tensor, None)
            for entry in self._kept
            if entry.when is None
            for pattern in entry.tensors
        )


def _layers(neat: _Neat) -> str | None:
    """Return the layers as a recipe says them, for models of any depth."""
    if neat.layers is None:
        return None
    return layer_texts(layer_items(neat.layers, range(_MOST_LAYERS), 0))[0]


def _neat(text: str) -> _Neat | None:
    """Read an expression as roles and layers; None if it can't be read so."""
    match = _IN_BLOCKS.fullmatch(text)
    in_blocks = match is not None
    if match is None:
        match = _OUTSIDE.fullmatch(text)
    if match is None:
        return None
    end = match["end"] or ""
    exact = match["start"] == "^" and end == r"\.weight$"
    roles = tuple(role + (".bias" if "bias" in end else "") for role in _texts(match["roles"]))
    if not roles or not all(map(is_plain, roles)):
        return None
    if not in_blocks:
        return _Neat(roles=roles, layers=None, in_blocks=False, exact=exact)
    said = match["layers"]
    exact = exact and match["dot"] == r"\."
    if said in _ANY_NUMBER or said in _ANYTHING:
        return _Neat(roles=roles, layers=None, in_blocks=True, exact=exact and said in _ANY_NUMBER)
    try:
        numbers = Regex.parse(f"^({said})$")
    except RecipeError:
        return None
    layers = frozenset(n for n in range(_MOST_LAYERS) if numbers.search(str(n)))
    ranges = sum(n - 1 not in layers for n in layers)
    return (
        _Neat(roles=roles, layers=layers, in_blocks=True, exact=exact) if 0 < ranges < _MOST_RANGES else None
    )


def _texts(part: str) -> tuple[str, ...]:
    """Return the names that a part of an expression stands for; none if that isn't clear."""
    if "." in part.replace(r"\.", ""):
        return ()
    try:
        return tuple(dict.fromkeys(Regex.parse(part).texts or ()))
    except RecipeError:
        return ()


def _joined(lines: Sequence[tuple[Rule, tuple[str, ...]]]) -> list[Rule]:
    """Join neighbours that say the same of different roles to one rule."""
    joined: list[tuple[Rule, tuple[str, ...]]] = []
    for draft, roles in lines:
        if joined and roles and joined[-1][1]:
            before, others = joined[-1]
            if (before.type, before.layers, before.why) == (draft.type, draft.layers, draft.why):
                together = tuple(dict.fromkeys((*others, *roles)))
                patterns = tuple(map(Pattern.parse, braced(together)))
                joined[-1] = (replace(before, tensors=patterns), together)
                continue
        joined.append((draft, roles))
    return [draft for draft, _ in joined]
