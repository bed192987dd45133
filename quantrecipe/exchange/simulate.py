"""Which type a command of llama-quantize gives each tensor of a model.

Facts from llama.cpp (tools/quantize/quantize.cpp, src/llama-quant.cpp):

* The pattern of `--tensor-type PATTERN=TYPE` is lower-cased, `\\D` to `\\d`, and searched in the full name; the first
  match decides. It counts only where the preset's own type is a quantized one: on F16, BF16 and F32 it is ignored.
* `--token-embedding-type` and `--output-tensor-type` go before it. With tied embeddings the output's type holds for
  `token_embd` and `per_layer_token_embd`, unless a pattern names them.
* What the patterns leave, the preset decides, and the preset is a shipped recipe; but it counts only the tensors that
  it decides itself when it picks the layers with more bits, where a recipe's `rank` counts all.
* `--pure` gives every matrix the preset's own type, except where a pattern says otherwise.
"""

from __future__ import annotations

from collections.abc import Collection

from quantrecipe.exchange.command import MIXTURES, Command, takes_patterns
from quantrecipe.exchange.named_list import FirstMatch
from quantrecipe.exchange.overrides import read_type
from quantrecipe.exchange.presets import planned_types
from quantrecipe.model.model import Model
from quantrecipe.plan.facts import model_facts, tensor_facts
from quantrecipe.plan.trace import covers_all, trace
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import KEEP, Recipe, Rule
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo, head_name

__all__ = ["command_types", "fallback_for", "load_mixture", "main_type"]


def load_mixture(name: str, registry: Registry) -> Recipe:
    """The recipe that is a preset of llama-quantize's."""
    return load_recipe(f"llama.cpp/{MIXTURES[name]}", registry=registry)


def command_types(
    command: Command,
    mixture: Recipe,
    source: Model,
    registry: Registry,
    *,
    reached: Collection[str],
    importance: bool,
) -> dict[str, str]:
    """The type that llama-quantize gives each tensor.

    mixture: the command's, as `load_mixture` gives it
    source:  the model, with floats in its matrices
    reached: what is ever quantized of it, as `quantizable` says
    """
    if command.mixture == "COPY":
        return {tensor.name: tensor.dtype for tensor in source.tensors}
    fixed = _fixed(command, source, reached, registry)
    if command.pure:
        types = {tensor.name: tensor.dtype for tensor in source.tensors}
        own = [tensor for tensor in source.tensors if tensor.name in reached]
        types |= {tensor.name: fallback_for(main_type(mixture), tensor, registry) for tensor in own}
    else:
        types = _mixture_types(
            mixture, source, registry, taken=fixed.keys(), reached=reached, importance=importance
        )
    return {**types, **fixed}


def main_type(mixture: Recipe) -> str:
    """The type that llama-quantize starts from, before it looks at the tensor."""
    return "MXFP4" if mixture.file_type == "MXFP4_MOE" else mixture.default or "F32"


def _fixed(command: Command, source: Model, reached: Collection[str], registry: Registry) -> dict[str, str]:
    """By name, the types that options give, whatever the preset."""
    tied = head_name(source.tensors) == "token_embd.weight"
    patterns, types = _patterns(command, registry)
    output, embedding = (
        read_type(text, registry).name if text else None
        for text in (command.output_type, command.embedding_type)
    )
    fixed = {}
    for tensor in source.tensors:
        if tensor.name not in reached:
            continue
        embeds = tensor.role in ("token_embd", "per_layer_token_embd")
        number = patterns.find(tensor.name)
        pattern = None if number is None else types[number]
        if command.leave_output and tensor.name == "output.weight":
            fixed[tensor.name] = tensor.dtype
        elif embedding and embeds and not (tensor.role == "per_layer_token_embd" and pattern):
            fixed[tensor.name] = embedding
        elif output and tensor.name == "output.weight":
            fixed[tensor.name] = output
        elif pattern:
            fixed[tensor.name] = fallback_for(pattern, tensor, registry)
        elif output and tied and embeds and not command.pure:
            fixed[tensor.name] = fallback_for(output, tensor, registry)
    return fixed


def _patterns(command: Command, registry: Registry) -> tuple[FirstMatch, list[str]]:
    """The overrides as llama-quantize reads them, lower-cased, and their types; none where it ignores them."""
    overrides = command.overrides if takes_patterns(command.mixture) else ()
    names = {said: read_type(said, registry).name for said in {it.type for it in overrides}}
    return FirstMatch([it.regex.lower() for it in overrides]), [names[it.type] for it in overrides]


def _mixture_types(
    mixture: Recipe,
    source: Model,
    registry: Registry,
    *,
    taken: Collection[str],
    reached: Collection[str],
    importance: bool,
) -> dict[str, str]:
    """The type of every tensor that isn't `taken` by a pattern; those of taken ones mean nothing. None at all where the
    preset can't be had for such rows.

    source:  the model, with floats in its matrices
    reached: names of the tensors that are ever quantized
    """
    if not taken:
        planned = planned_types(mixture, source, registry, importance=importance)
        return {name: it.type for name, it in (planned or {}).items()}
    found = trace(mixture, source, covered=covers_all if importance else None)
    facts = model_facts(source, has_importance=importance)
    decided: dict[str, Rule] = {}
    for rule, match in found.matches:
        named = [tensor for tensor in found.tensors if tensor.name in match.named]
        rank = 0
        for tensor in named:
            if tensor.name in taken:
                continue
            own = tensor_facts(tensor, rank=rank, count=len(named), covered=importance)
            in_layers = rule.layers is None or rule.layers.contains(tensor.layer, found.n_layers)
            if in_layers and (rule.when is None or rule.when.evaluate({**facts, **own})):
                decided.setdefault(tensor.name, rule)
            rank += 1
    types = {}
    for tensor in found.tensors:
        decider = decided.get(tensor.name)
        wanted = decider.type if decider is not None else mixture.default if tensor.name in reached else KEEP
        kept = wanted in (None, KEEP)
        types[tensor.name] = tensor.dtype if kept else fallback_for(wanted or KEEP, tensor, registry)
    return types


def fallback_for(wanted: str, tensor: TensorInfo, registry: Registry) -> str:
    """The type, or the first of its fallbacks that accepts the tensor."""
    fitting = (fmt.spec.name for fmt in registry.chain(wanted) if fmt.accepts(tensor) is None)
    return next(fitting, wanted)
