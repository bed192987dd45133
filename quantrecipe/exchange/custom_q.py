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
from dataclasses import replace

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.assemble import Parts, assemble
from quantrecipe.exchange.command import MIXTURES, Command, importance_of
from quantrecipe.exchange.imported import Imported
from quantrecipe.exchange.named_list import names_tensors
from quantrecipe.exchange.overrides import Override, TypeName, checked_types, read_list, read_type
from quantrecipe.exchange.simulate import load_mixture, main_type
from quantrecipe.exchange.source import as_source, quantizable
from quantrecipe.exchange.summarised import deciding_lines, unused_lines, with_reasons
from quantrecipe.exchange.translate import translate
from quantrecipe.missing_formats import package_of
from quantrecipe.model.model import Model
from quantrecipe.plan.facts import model_facts
from quantrecipe.recipe.recipe import KEEP, Rule
from quantrecipe.recipe.summarise import common_type, summarise
from quantrecipe.registry import Registry
from quantrecipe.wording import some_of

__all__ = ["from_custom_q", "from_ik", "from_tool_suite"]

_MOST_NAMES = 5
_FLOATS = ("F32", "F16", "BF16", "COPY")
_SIZED = re.compile(r"(I?Q\d_K)_?[SML](?:_R[48])?|(?!)")
"""Presets of ik_llama.cpp whose name is that of their main type, and a size."""


def from_custom_q(
    text: str,
    registry: Registry,
    *,
    base: str | None = None,
    model: Model | None = None,
    name: str,
    file: str,
) -> Imported:
    """The recipe of a `--custom-q` argument, or of the lines in a script that become one.

    base: the type that ik_llama.cpp was called with, which is for tensors that no rule names
    """
    overrides = read_list(text, file, commas=True)
    return _imported(
        overrides, registry, "--custom-q", "ik_llama.cpp", model, name, file, _default(base, registry)
    )


def from_ik(
    command: Command, registry: Registry, *, model: Model | None = None, name: str, file: str
) -> Imported:
    """The recipe of a command of ik_llama.cpp's llama-quantize that has `--custom-q`."""
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
        importance=importance_of(command),
        metadata=command.metadata,
        requires=tuple(type_.package for _, type_ in before if type_.package),
        notes=tuple(notes),
    )
    return _assembled(overrides, registry, "ik_llama.cpp", model, file, default, parts)


def from_tool_suite(
    text: str, registry: Registry, *, model: Model | None = None, name: str, file: str
) -> Imported:
    """The recipe of a `.recipe` of the GGUF-Tool-Suite."""
    overrides = read_list(text, file)
    return _imported(overrides, registry, "GGUF-Tool-Suite", "GGUF-Tool-Suite", model, name, file, None)


def _default(base: str | None, registry: Registry) -> TypeName | None:
    """The type that stands for a preset: most tensors have it."""
    if base is None:
        return None
    name = base.upper()
    plain = re.sub(r"_R(4|8|16)$", "", name)
    if plain in MIXTURES and plain not in registry.formats:
        return TypeName(name=main_type(load_mixture(plain, registry)))
    if (match := _SIZED.fullmatch(name)) and name not in registry.formats and package_of(name) is None:
        return read_type(match[1], registry)  # Q4_K_S_R4, IQ3_KL
    return read_type(base, registry)


def _imported(
    overrides: list[Override],
    registry: Registry,
    origin: str,
    tool: str,
    model: Model | None,
    name: str,
    file: str,
    default: TypeName | None,
) -> Imported:
    if not overrides:
        raise RecipeError("there is no rule in it", "rules are like REGEX=TYPE", file=file)
    return _assembled(overrides, registry, tool, model, file, default, Parts(name=name, origin=origin))


def _assembled(
    overrides: list[Override],
    registry: Registry,
    tool: str,
    model: Model | None,
    file: str,
    default: TypeName | None,
    parts: Parts,
) -> Imported:
    """The recipe of the parts and the overrides behind them."""
    source = as_source(model, registry) if model is not None else None
    if source is not None and names_tensors(overrides):
        return _summarised(overrides, registry, tool, source, file, default, parts)
    translated = translate(overrides, registry, source, tool=tool, file=file)
    notes = [*parts.notes, *translated.notes]
    if source is not None:
        reached = quantizable(source, registry)
        notes += _unnamed(reached - deciding_lines(overrides, reached).keys(), tool, default, parts)
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
    return assemble(parts, registry, source, importance=bool(parts.importance))


def _summarised(
    overrides: list[Override],
    registry: Registry,
    tool: str,
    source: Model,
    file: str,
    default: TypeName | None,
    parts: Parts,
) -> Imported:
    """A list that names tensors one by one: its types, as the rules that a GGUF with these types becomes."""
    types = checked_types(overrides, registry, file)
    reached = quantizable(source, registry)
    lines = deciding_lines(overrides, reached)
    wanted = {name: types[overrides[line].type].name for name, line in lines.items()}
    before = {
        f"{role}.weight": rule.type for rule in parts.rules for role in rule.tensors if rule.type != KEEP
    }
    wanted |= {name: type_ for name, type_ in before.items() if name in reached}
    n_layers = int(model_facts(source, has_importance=False)["n_layers"])
    left = reached - wanted.keys()
    main = default.name if default else None
    if not left:
        main = common_type(wanted, source.tensors, n_layers, reached=reached)
    base = dict.fromkeys(reached, main) if main else {}
    rules = summarise(wanted, source.tensors, n_layers, base=base)
    used = {*(rule.type for rule in rules), main or ""}
    packages = {it.package for it in (*types.values(), default) if it and it.package and it.name in used}
    parts = replace(
        parts,
        rules=(*(rule for rule in parts.rules if rule.type == KEEP), *rules),
        default=main,
        requires=tuple(sorted(packages | set(parts.requires))),
        notes=(
            *parts.notes,
            *dict.fromkeys(it.note for it in types.values() if it.note),
            *_unnamed(left, tool, default, parts),
            *unused_lines(overrides, types, lines, source, tool=tool),
        ),
    )
    importance = bool(parts.importance)
    parts = with_reasons(parts, overrides, lines, source, registry, importance=importance)
    return assemble(parts, registry, source, importance=importance)


def _unnamed(left: Collection[str], tool: str, default: TypeName | None, parts: Parts) -> list[str]:
    """A note on the tensors that no rule names."""
    named = {f"{role}.weight" for rule in parts.rules for role in rule.tensors}
    names = sorted(set(left) - named)
    if not names:
        return []
    what = f"the default {default.name}" if default else "the source's type"
    return [f"no rule names {some_of(names, _MOST_NAMES)}: {what} here; {tool} may choose another one"]
