"""ik_llama.cpp's `--custom-q "regex=type,regex=type"`, and the lines of a `.recipe` of the GGUF-Tool-Suite, as recipes.

Facts from ik_llama.cpp (examples/quantize/quantize.cpp, src/llama-quantize.cpp): patterns keep their case and are
searched in the full name, the first match decides; a comma always ends a rule, so that none can stand in a pattern.
With `--pure`, or on a type that isn't a quantized one, they are ignored. What no pattern names is left to the preset.
`--output-tensor-type` and `--token-embedding-type` go before them.

A `.recipe` is the same, one rule to a line, and has every tensor of its model. Comments begin with `#`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.assemble import Imported, Parts, assemble
from quantrecipe.exchange.from_commands.command import MIXTURES, Command
from quantrecipe.exchange.from_commands.list_on_model import ListOnModel, deciding_lines
from quantrecipe.exchange.from_commands.named_list import names_tensors
from quantrecipe.exchange.from_commands.overrides import (
    Override,
    TypeName,
    read_list,
    read_type,
)
from quantrecipe.exchange.from_commands.translate import translate
from quantrecipe.exchange.simulate import load_mixture, main_type
from quantrecipe.exchange.source import Source
from quantrecipe.missing_formats import package_of
from quantrecipe.model.model import Model
from quantrecipe.recipe.recipe import KEEP, Rule
from quantrecipe.recipe.writing.summarise import common_type, summarise
from quantrecipe.registry import Registry
from quantrecipe.wording import some_of

__all__ = ["from_custom_q", "from_ik", "from_tool_suite"]

_MOST_NAMES = 5
_FLOATS = ("F32", "F16", "BF16", "COPY")
"""Presets on which ik_llama.cpp ignores `--custom-q`, since they quantize nothing."""
_SIZED = re.compile(r"(I?Q\d_K)_?[SML](?:_R[48])?|(?!)")
"""Presets of ik_llama.cpp whose name is that of their main type, and a size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _List:
    """A list of overrides, the tool that it is for, and the type of what the list doesn't name; None: the source's."""

    overrides: list[Override]
    tool: str
    file: str
    registry: Registry
    default: TypeName | None = None


def from_custom_q(
    text: str,
    registry: Registry,
    *,
    base: str | None = None,
    model: Model | None = None,
    name: str,
    file: str,
) -> Imported:
    """Make the recipe of a `--custom-q` argument, or of the lines in a script that become one.

    base: the type that ik_llama.cpp was called with, which is for tensors that no rule names
    """
    overrides = read_list(text, file, commas=True)
    default = _default(base, registry)
    given = _List(overrides=overrides, tool="ik_llama.cpp", file=file, registry=registry, default=default)
    return _imported(given, Parts(name=name, origin="--custom-q"), model)


def from_tool_suite(
    text: str, registry: Registry, *, model: Model | None = None, name: str, file: str
) -> Imported:
    """Make the recipe of a `.recipe` of the GGUF-Tool-Suite."""
    given = _List(overrides=read_list(text, file), tool="GGUF-Tool-Suite", file=file, registry=registry)
    return _imported(given, Parts(name=name, origin="GGUF-Tool-Suite"), model)


def from_ik(
    command: Command, registry: Registry, *, model: Model | None = None, name: str, file: str
) -> Imported:
    """Make the recipe of a command of ik_llama.cpp's llama-quantize that has `--custom-q`."""
    before = []
    for tensors, said, option in (
        ("output", command.output_type, "--output-tensor-type"),
        ("token_embd", command.embedding_type, "--token-embedding-type"),
    ):
        if said is not None:
            type_ = read_type(said, registry)
            before.append((Rule.of([tensors], type=type_.name, optional=True, why=option), type_))
    notes = list(command.notes)
    overrides = list(command.custom or ())
    if command.pure or command.mixture in _FLOATS:
        why = "with --pure" if command.pure else f"where the type is {command.mixture}"
        notes.append(f"ik_llama.cpp ignores --custom-q {why}: its rules are left out")
        overrides = []
    if command.overrides:
        notes.append("ik_llama.cpp has no --tensor-type, which llama.cpp's program has: it is left out")
    if command.leave_output:
        rule = Rule.of(["output"], type=KEEP, optional=True, why="--leave-output-tensor")
        before.insert(0, (rule, TypeName(name=KEEP)))
    default = _default(command.mixture, registry)
    parts = Parts(
        name=name,
        origin=f"ik_llama.cpp's llama-quantize {command.mixture}",
        rules=tuple(rule for rule, _ in before),
        file_type=command.label,
        importance=command.importance,
        metadata=command.metadata,
        requires=tuple(type_.package for _, type_ in before if type_.package),
        notes=tuple(notes),
    )
    given = _List(overrides=overrides, tool="ik_llama.cpp", file=file, registry=registry, default=default)
    return _assembled(given, parts, model)


def _default(base: str | None, registry: Registry) -> TypeName | None:
    """Return the type that stands for a preset: most tensors have it."""
    if base is None:
        return None
    name = base.upper()
    plain = re.sub(r"_R(4|8|16)$", "", name)
    if plain in MIXTURES and plain not in registry.formats:
        return TypeName(name=main_type(load_mixture(plain, registry)))
    if (match := _SIZED.fullmatch(name)) and name not in registry.formats and package_of(name) is None:
        return read_type(match[1], registry)  # Q4_K_S_R4, IQ3_KL
    return read_type(base, registry)


def _imported(given: _List, parts: Parts, model: Model | None) -> Imported:
    if not given.overrides:
        raise RecipeError("there is no rule in it", "rules are like REGEX=TYPE", file=given.file)
    return _assembled(given, parts, model)


def _assembled(given: _List, parts: Parts, model: Model | None) -> Imported:
    """Make the recipe of the parts, and of the overrides behind them."""
    overrides, registry, default = given.overrides, given.registry, given.default
    source = None if model is None else Source.of(model, registry, importance=bool(parts.importance))
    if source is not None and names_tensors(overrides):
        return _summarised(given, parts, source)
    translated = translate(overrides, registry, source, tool=given.tool, file=given.file)
    notes = [*parts.notes, *translated.notes]
    if source is not None:
        left = source.reached - deciding_lines(overrides, source.reached).keys()
        notes += _unnamed(left, given, parts)
    packages = {*parts.requires, *translated.packages}
    if default is not None and default.package:
        packages.add(default.package)
    parts = replace(
        parts,
        rules=(*parts.rules, *translated.rules),
        default=default.name if default else None,
        requires=tuple(sorted(packages)),
        notes=tuple(notes),
    )
    return assemble(parts, source)


def _summarised(given: _List, parts: Parts, source: Source) -> Imported:
    """Make of a list that names tensors one by one the rules that a GGUF with these types becomes."""
    default, reached, n_layers = given.default, source.reached, source.model.n_layers
    listed = ListOnModel.of(given.overrides, source, given.file)
    before = {
        f"{role}.weight": rule.type for rule in parts.rules for role in rule.tensors if rule.type != KEEP
    }
    wanted = listed.asked
    wanted |= {name: type_ for name, type_ in before.items() if name in reached}
    left = reached - wanted.keys()
    main = default.name if default else None
    if not left:
        main = common_type(wanted, source.tensors, n_layers, reached=reached)
    base = dict.fromkeys(reached, main) if main else {}
    rules = summarise(wanted, source.tensors, n_layers, base=base)
    used = {*(rule.type for rule in rules), main or ""}
    packages = {*parts.requires, *listed.packages(used)}
    if default is not None and default.package and default.name in used:
        packages.add(default.package)
    parts = replace(
        parts,
        rules=(*(rule for rule in parts.rules if rule.type == KEEP), *rules),
        default=main,
        requires=tuple(sorted(packages)),
        notes=(
            *parts.notes,
            *listed.changed,
            *_unnamed(left, given, parts),
            *listed.unused(given.tool),
        ),
    )
    return assemble(listed.with_reasons(parts), source)


def _unnamed(left: Collection[str], given: _List, parts: Parts) -> list[str]:
    """Return a note on the tensors that no rule names."""
    named = {f"{role}.weight" for rule in parts.rules for role in rule.tensors}
    names = sorted(set(left) - named)
    if not names:
        return []
    what = f"the default {given.default.name}" if given.default else "the source's type"
    return [f"no rule names {some_of(names, _MOST_NAMES)}: {what} here; {given.tool} may choose another one"]
