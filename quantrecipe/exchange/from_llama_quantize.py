"""A command line of llama-quantize, or a file for its `--tensor-type-file`, as a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from quantrecipe.exchange.assemble import Parts, assemble
from quantrecipe.exchange.imported import Imported
from quantrecipe.exchange.llama_quantize import MIXTURES, Command, takes_patterns
from quantrecipe.exchange.overrides import Override, read_type
from quantrecipe.exchange.simulate import command_types, load_mixture, main_type
from quantrecipe.exchange.source import as_source, quantizable
from quantrecipe.exchange.translate import translate
from quantrecipe.model.model import Model
from quantrecipe.plan.label import untrue
from quantrecipe.recipe.recipe import KEEP
from quantrecipe.recipe.regex import Regex
from quantrecipe.recipe.summarise import DraftRule
from quantrecipe.registry import Registry

__all__ = ["from_llama_quantize"]

_TOOL = "llama-quantize"
_EMBEDDINGS = ("token_embd", "per_layer_token_embd")


def from_llama_quantize(
    command: Command, registry: Registry, *, model: Model | None = None, name: str, file: str
) -> Imported:
    """The recipe that does what the command does; with a model, to the type of each of its tensors."""
    source = as_source(model, registry) if model is not None else None
    overrides, notes = _lowered(command)
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
        extends=None if command.pure else f"llama.cpp/{MIXTURES[command.mixture]}",
        default=main_type(mixture) if command.pure else None,
        file_type=mixture.file_type if command.pure else None,
        importance=_importance(command),
        metadata=command.metadata,
        prune=", ".join(map(str, command.prune)) or None,
        requires=translated.packages,
        notes=(*notes, *translated.notes),
    )
    importance = command.imatrix is not None
    truth = None
    if source is not None and not command.prune:  # without pruned layers, the others have other numbers
        reached = quantizable(source, registry)
        truth = command_types(command, mixture, source, registry, reached=reached, importance=importance)
        pairs = [(tensor, truth.get(tensor.name, tensor.dtype)) for tensor in source.tensors]
        if mixture.file_type not in (None, KEEP) and untrue(mixture.file_type, pairs, source, registry):
            # llama-quantize labels the file with the mix it was called with, whatever its overrides make of it.
            parts = replace(parts, file_type=mixture.file_type)
    return assemble(parts, registry, source, truth, importance=importance)


def _lowered(command: Command) -> tuple[list[Override], list[str]]:
    """The overrides as llama-quantize reads them, and what it does to them."""
    if command.overrides and not takes_patterns(command.mixture):
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


def _before(command: Command, registry: Registry) -> list[DraftRule]:
    """What goes before patterns."""
    rules = []
    if command.leave_output:
        rules.append(DraftRule(tensors=("output",), type=KEEP, optional=True, why="--leave-output-tensor"))
    if command.embedding_type:
        named = any(
            Regex.parse(it.regex.lower()).search("per_layer_token_embd.weight") for it in command.overrides
        )
        rules.append(
            DraftRule(
                tensors=_EMBEDDINGS[:1] if named else _EMBEDDINGS,
                type=read_type(command.embedding_type, registry).name,
                optional=True,
                why="--token-embedding-type",
            )
        )
    if command.output_type:
        type_ = read_type(command.output_type, registry).name
        rules.append(DraftRule(tensors=("output",), type=type_, optional=True, why="--output-tensor-type"))
    return rules


def _after(command: Command, registry: Registry) -> list[DraftRule]:
    """What patterns go before."""
    rules = []
    if command.output_type and not command.pure:
        rules.append(
            DraftRule(
                tensors=_EMBEDDINGS,
                when="tied_embeddings",
                type=read_type(command.output_type, registry).name,
                optional=True,
                why="--output-tensor-type: tied embeddings are the output",
            )
        )
    return rules


def _importance(command: Command) -> dict[str, Any] | None:
    said: dict[str, Any] = {}
    if command.imatrix is not None:
        said["file"] = command.imatrix
    if command.include:
        said["include"] = list(command.include)
    if command.exclude:
        said["exclude"] = list(command.exclude)
    return said or None


def _counts(rules: Sequence[Any]) -> bool:
    """True if a rule of the mixture counts tensors."""
    return any(rule.when is not None and "rank" in rule.when.names for rule in rules)
