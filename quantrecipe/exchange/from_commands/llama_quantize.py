"""A command line of llama-quantize, or a file for its `--tensor-type-file`, as a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from quantrecipe.exchange.assemble import Imported, Parts, assemble
from quantrecipe.exchange.from_commands.command import MIXTURES, Command
from quantrecipe.exchange.from_commands.custom_q import from_ik
from quantrecipe.exchange.from_commands.list_on_model import ListOnModel
from quantrecipe.exchange.from_commands.named_list import names_tensors
from quantrecipe.exchange.from_commands.overrides import Override, read_type
from quantrecipe.exchange.from_commands.translate import translate
from quantrecipe.exchange.from_files.recover import shortest_draft
from quantrecipe.exchange.simulate import command_types, load_mixture, main_type
from quantrecipe.exchange.source import Source
from quantrecipe.model.model import Model
from quantrecipe.plan.label import untrue
from quantrecipe.recipe.reading.rule_items import Inclusion
from quantrecipe.recipe.recipe import KEEP, Rule
from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.recipe.terms.regex import Regex
from quantrecipe.registry import Registry

__all__ = ["from_llama_quantize"]

_TOOL = "llama-quantize"
_EMBEDDINGS = ("token_embd", "per_layer_token_embd")


def from_llama_quantize(
    command: Command, registry: Registry, *, model: Model | None = None, name: str, file: str
) -> Imported:
    """Make the recipe that does what the command does; with a model, to the type of each of its tensors."""
    if command.custom is not None:
        return from_ik(command, registry, model=model, name=name, file=file)
    importance = command.imatrix is not None
    source = None if model is None else Source.of(model, registry, importance=importance)
    overrides, notes = _lowered(command)
    if source is not None and names_tensors(overrides) and not command.prune:
        return _summarised(command, overrides, notes, source, name=name, file=file)
    translated = translate(overrides, registry, source, tool=_TOOL, file=file)
    mixture = load_mixture(command.mixture, registry)
    counted = _counts(mixture.rules) and bool(translated.rules) and source is None and not command.pure
    if counted:
        notes.append(
            "llama-quantize doesn't count the tensors that --tensor-type names when it chooses layers with more bits; "
            "--model MODEL takes that into account"
        )
    parts = Parts(
        name=name,
        origin=_TOOL if command.overrides else f"{_TOOL} {command.mixture}",
        rules=(*_before(command, registry), *translated.rules, *_after(command, registry)),
        extends=() if command.pure else (Inclusion(ref=f"llama.cpp/{MIXTURES[command.mixture]}"),),
        default=main_type(mixture) if command.pure else None,
        file_type=command.label or (mixture.file_type if command.pure else None),
        importance=command.importance,
        metadata=command.metadata,
        prune=LayerSet.parse(", ".join(map(str, command.prune))) if command.prune else None,
        requires=translated.packages,
        notes=(*command.notes, *notes, *translated.notes),
    )
    truth = None
    if source is not None and not command.prune:  # without pruned layers, the others have other numbers
        truth = command_types(command, mixture, source)
        pairs = [(tensor, truth.get(tensor.name, tensor.dtype)) for tensor in source.tensors]
        if mixture.file_type not in (None, KEEP) and untrue(mixture.file_type, pairs, source.model, registry):
            # llama-quantize labels the file with the mix it was called with, whatever its overrides make of it.
            parts = replace(parts, file_type=mixture.file_type)
    return assemble(parts, source, truth)


def _summarised(
    command: Command,
    overrides: Sequence[Override],
    notes: Sequence[str],
    source: Source,
    *,
    name: str,
    file: str,
) -> Imported:
    """Make of a list that names tensors one by one the rules that a GGUF with these types becomes."""
    listed = ListOnModel.of(overrides, source, file)
    mixture = load_mixture(command.mixture, source.registry)
    truth = command_types(command, mixture, source)
    planned = source.planned(mixture) or {}
    wishes = {**{it: wanted for it, (wanted, type_) in planned.items() if type_ == truth[it]}, **listed.asked}
    intents = {
        tensor.name: wish
        for tensor in source.tensors
        if tensor.name in source.reached
        and (wish := wishes.get(tensor.name, "")) not in ("", truth[tensor.name])
        and source.fallback(wish, tensor) == truth[tensor.name]
    }
    draft = shortest_draft(truth, intents, source, mixture.file_type, presets=True)
    if draft.guess is not None and draft.guess.importance != source.importance:
        draft = shortest_draft(truth, intents, source, mixture.file_type, presets=False)
    used = {*(rule.type for rule in draft.rules), draft.default or ""}
    label = (
        mixture.file_type
        if draft.guess is None or draft.guess.recipe.file_type != mixture.file_type
        else None
    )
    parts = Parts(
        name=name,
        origin=_TOOL,
        rules=tuple(draft.rules),
        extends=(Inclusion(ref=draft.guess.ref),) if draft.guess is not None else (),
        default=draft.default,
        file_type=command.label or label,
        importance=command.importance,
        metadata=command.metadata,
        requires=tuple(sorted(listed.packages(used))),
        notes=(*command.notes, *notes, *listed.changed, *listed.unused(_TOOL)),
    )
    return assemble(listed.with_reasons(parts), source, truth)


def _lowered(command: Command) -> tuple[list[Override], list[str]]:
    """Return the overrides as llama-quantize reads them, and notes on what it does to them."""
    if command.overrides and not command.takes_patterns:
        return [], [
            f"llama-quantize ignores --tensor-type where the type is {command.mixture}: they are left out"
        ]
    lowered = [
        replace(it, regex=it.regex.lower(), why=it.why or f"as --tensor-type {it.regex}={it.type}")
        for it in command.overrides
    ]
    notes = [
        f"llama-quantize lower-cases {was.regex!r}, to {it.regex!r}"
        for was, it in zip(command.overrides, lowered, strict=True)
        if was.regex != it.regex
    ]
    return lowered, notes


def _before(command: Command, registry: Registry) -> list[Rule]:
    """Return the rules of options that llama-quantize looks at before patterns."""
    rules = []
    if command.leave_output:
        rules.append(Rule.of(["output"], type=KEEP, optional=True, why="--leave-output-tensor"))
    if command.embedding_type:
        named = any(
            Regex.parse(it.regex.lower()).search("per_layer_token_embd.weight") for it in command.overrides
        )
        rules.append(
            Rule.of(
                _EMBEDDINGS[:1] if named else _EMBEDDINGS,
                type=read_type(command.embedding_type, registry).name,
                optional=True,
                why="--token-embedding-type",
            )
        )
    if command.output_type:
        type_ = read_type(command.output_type, registry).name
        rules.append(Rule.of(["output"], type=type_, optional=True, why="--output-tensor-type"))
    return rules


def _after(command: Command, registry: Registry) -> list[Rule]:
    """Return the rules of options that llama-quantize looks at after patterns."""
    rules = []
    if command.output_type and not command.pure:
        rules.append(
            Rule.of(
                _EMBEDDINGS,
                when=Expression.parse("tied_embeddings"),
                type=read_type(command.output_type, registry).name,
                optional=True,
                why="--output-tensor-type: tied embeddings are the output",
            )
        )
    return rules


def _counts(rules: Sequence[Any]) -> bool:
    """Say whether a rule of the preset counts tensors."""
    return any(rule.when is not None and "rank" in rule.when.names for rule in rules)
