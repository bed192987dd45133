"""A plan as the command line of llama-quantize that gives every tensor the same type.

Of all presets, with and without --pure, the one is taken that needs the fewest patterns beside it. What it would give
is known from `command_types`, and the command that comes out is held against the plan before it is given back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from quantrecipe.errors import PlanError
from quantrecipe.exchange.from_commands.command import MIXTURES, Command
from quantrecipe.exchange.from_commands.overrides import Override
from quantrecipe.exchange.from_commands.read_command import read_command
from quantrecipe.exchange.scripts.call import Dialect
from quantrecipe.exchange.simulate import command_types, load_mixture, main_type
from quantrecipe.exchange.source import Source
from quantrecipe.exchange.to_commands.exported import (
    Exported,
    command_text,
    refuse,
    requests,
    stored_model,
    wanted_types,
)
from quantrecipe.exchange.to_commands.type_regexes import type_patterns
from quantrecipe.gguf.file_types import FILE_TYPES
from quantrecipe.plan.plan import Plan
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry

__all__ = ["to_llama_quantize", "to_tensor_type_file"]

_TOOL = "llama-quantize"
_NEAREST = 10
"""Presets for which patterns are written, those with the fewest wrong tensors."""
_ENDINGS: Mapping[Dialect, str] = {"sh": "sh", "cmd": "cmd", "powershell": "ps1"}
_FILE_TYPE = "general.file_type"
_REQUIRE = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"})
"""Types that llama-quantize refuses without importance. Origin: llama-quant.cpp, tensor_requires_imatrix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Way:
    command: Command
    main: str
    label: int | None

    def cost(self, label: int | None, used: Collection[str]) -> tuple[int, int, bool, bool, int, str]:
        """Return the sort key: first how many patterns, then how many that older builds ignore, last their length."""
        patterns = self.command.overrides
        same_as_main = sum(it.type.upper() == self.main for it in patterns)
        length = sum(len(it.regex) for it in patterns)
        extra = self.command.pure + (self.label != label)
        stranger = self.main not in used
        return len(patterns) + extra, same_as_main, stranger, self.command.pure, length, self.command.mixture


def to_llama_quantize(plan: Plan, recipe: Recipe, registry: Registry, *, shell: Dialect = "sh") -> Exported:
    """Write the command line, for a shell. PlanError has everything that llama-quantize can't be told."""
    way, scope, notes = _best(plan, recipe, registry)
    options, more = requests(plan, recipe)
    if way.command.pure:
        options.append("--pure")
    for override in way.command.overrides:
        options += ["--tensor-type", f"{override.regex}={override.type}"]
    label = _label(plan)
    if label is not None and way.label != label:
        options += ["--override-kv", f"{_FILE_TYPE}=int:{label}"]
    text = command_text(_TOOL, options, plan.model, plan.recipe, way.command.mixture, shell=shell)
    scope.prove(read_command(text, Path(), file=f"exported.{_ENDINGS[shell]}"))
    return Exported(text=text, notes=(*notes, *more))


def to_tensor_type_file(plan: Plan, recipe: Recipe, registry: Registry) -> Exported:
    """Write a file for `--tensor-type-file`; the notes say what to call llama-quantize with."""
    way, _, notes = _best(plan, recipe, registry)
    lines = [f"{it.regex}={it.type}\n" for it in way.command.overrides]
    pure = "--pure " if way.command.pure else ""
    called = f"call llama-quantize with it as: {pure}--tensor-type-file FILE IN.gguf OUT.gguf {way.command.mixture}"
    return Exported(text="".join(lines), notes=(called, *notes))


def _best(plan: Plan, recipe: Recipe, registry: Registry) -> tuple[_Way, _Scope, list[str]]:
    source = Source(model=stored_model(plan.model), registry=registry, importance=plan.importance is not None)
    scope = _Scope(source=source, wanted=wanted_types(plan))
    refuse(plan, recipe, source.model, tool=_TOOL, reached=source.reached, dialects=("ggml",))
    label = _label(plan)
    used = set(scope.wanted.values())
    way = min(_ways(scope, label), key=lambda way: way.cost(label, used), default=None)
    if way is None:
        raise PlanError(
            "no command of llama-quantize gives these types: its patterns, which it lower-cases, can't tell some of "
            "the tensors apart"
        )
    notes = []
    if same := [it.regex for it in way.command.overrides if it.type.upper() == way.main]:
        notes.append(
            "some builds of llama-quantize ignore patterns whose type is the preset's own (llama.cpp #22544): "
            + ", ".join(f"{it}={way.main.lower()}" for it in same[:3])
        )
    needy = sorted({scope.wanted[name] for name in source.reached if scope.wanted[name] in _REQUIRE})
    if needy and not source.importance:
        notes.append(
            f"llama-quantize refuses {', '.join(needy)} without an importance matrix: give --imatrix"
        )
    if plan.model.container != "gguf":
        notes.append(
            "the command is for the model as a GGUF: as llama.cpp's converter makes it, or llama.cpp/BF16"
        )
    return way, scope, notes


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scope:
    """A plan as llama-quantize sees it."""

    source: Source
    wanted: Mapping[str, str]

    def wrong(self, command: Command, mixture: Recipe) -> set[str]:
        """Return the tensors to which a command gives another type."""
        types = command_types(command, mixture, self.source)
        return {name for name, type_ in self.wanted.items() if types.get(name) != type_}

    def prove(self, command: Command) -> None:
        """Raise PlanError if what was written isn't what was meant."""
        if wrong := sorted(self.wrong(command, load_mixture(command.mixture, self.source.registry))):
            raise PlanError(f"llama-quantize can't be told the type of {wrong[0]} ({len(wrong)} in all)")


def _ways(scope: _Scope, label: int | None) -> Iterator[_Way]:
    """Yield commands that give what is wanted: of the nearest presets, and of a pure one for each type."""

    def order(name: str) -> tuple[bool, bool, str]:
        return FILE_TYPES[name] != label, name == "Q2_K_S", name  # Q2_K_S asks for importance

    starts = []
    pure: set[str] = set()
    for name in sorted(set(MIXTURES.values()) - {"COPY"}, key=order):
        mixture = load_mixture(name, scope.source.registry)
        main = main_type(mixture)
        command = Command(mixture=name)
        starts.append((len(scope.wrong(command, mixture)), name, command, mixture, main))
        if main not in pure and Command(mixture=name).takes_patterns:
            pure.add(main)
            command = Command(mixture=name, pure=True)
            starts.append((len(scope.wrong(command, mixture)), name, command, mixture, main))
    starts.sort(key=lambda start: start[:2])
    for wrong, name, command, mixture, main in starts[:_NEAREST]:
        if wrong == len(scope.wanted):  # it can't be planned for such rows
            continue
        found = _with_patterns(command, mixture, scope)
        if found is not None:
            yield _Way(command=found, main=main, label=FILE_TYPES.get(name))


def _with_patterns(command: Command, mixture: Recipe, scope: _Scope) -> Command | None:
    """Add patterns for all that the command gets wrong, again and again: each may move what the preset counts."""
    needed: set[str] = set()
    while wrong := scope.wrong(command, mixture):
        if wrong <= needed or not command.takes_patterns:
            return None
        needed |= wrong
        found = type_patterns(scope.wanted, scope.source.tensors, needed)
        overrides = tuple(Override(regex=it, type=type_.lower()) for it, type_ in found)
        command = replace(command, overrides=overrides)
    return command


def _label(plan: Plan) -> int | None:
    value = plan.metadata.get(_FILE_TYPE)
    number = value.decode() if value is not None else None
    return number if type(number) is int else None
