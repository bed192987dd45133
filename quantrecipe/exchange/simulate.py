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

from quantrecipe.exchange.from_commands.command import MIXTURES, Command
from quantrecipe.exchange.from_commands.named_list import FirstMatch
from quantrecipe.exchange.from_commands.overrides import read_type
from quantrecipe.exchange.source import Source
from quantrecipe.plan.condition_facts import model_facts, tensor_facts
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import KEEP, Recipe, Rule
from quantrecipe.registry import Registry
from quantrecipe.tensor import head_name

__all__ = ["command_types", "load_mixture", "main_type"]


def load_mixture(name: str, registry: Registry) -> Recipe:
    """Load the recipe that is a preset of llama-quantize's."""
    return load_recipe(f"llama.cpp/{MIXTURES[name]}", registry=registry)


def command_types(command: Command, mixture: Recipe, source: Source) -> dict[str, str]:
    """Return the type that llama-quantize gives each tensor.

    mixture: the command's, as `load_mixture` gives it
    """
    kept = {tensor.name: tensor.dtype for tensor in source.tensors}
    if command.mixture == "COPY":
        return kept
    fixed = _fixed(command, source)
    if not command.pure:
        return {**_mixture_types(mixture, source, taken=fixed.keys()), **fixed}
    main = main_type(mixture)
    own = (tensor for tensor in source.tensors if tensor.name in source.reached)
    return {**kept, **{tensor.name: source.fallback(main, tensor) for tensor in own}, **fixed}


def main_type(mixture: Recipe) -> str:
    """Return the type that llama-quantize starts from, before it looks at the tensor."""
    return "MXFP4" if mixture.file_type == "MXFP4_MOE" else mixture.default or "F32"


def _fixed(command: Command, source: Source) -> dict[str, str]:
    """Return the types that options give, whatever the preset, by the tensors' names."""
    tied = head_name(source.tensors) == "token_embd.weight"
    patterns, types = _patterns(command, source.registry)
    output, embedding = (
        read_type(text, source.registry).name if text else None
        for text in (command.output_type, command.embedding_type)
    )
    fixed = {}
    for tensor in source.tensors:
        if tensor.name not in source.reached:
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
            fixed[tensor.name] = source.fallback(pattern, tensor)
        elif output and tied and embeds and not command.pure:
            fixed[tensor.name] = source.fallback(output, tensor)
    return fixed


def _patterns(command: Command, registry: Registry) -> tuple[FirstMatch, list[str]]:
    """Return the overrides as llama-quantize reads them, lower-cased, and their types; none if it ignores them."""
    overrides = command.overrides if command.takes_patterns else ()
    names = {said: read_type(said, registry).name for said in {it.type for it in overrides}}
    return FirstMatch([it.regex.lower() for it in overrides]), [names[it.type] for it in overrides]


def _mixture_types(mixture: Recipe, source: Source, *, taken: Collection[str]) -> dict[str, str]:
    """Return the type of every tensor that isn't `taken` by a pattern; the types of taken ones mean nothing.

    There is none at all if the preset can't be had for such rows.
    """
    if not taken:
        return {name: it.type for name, it in (source.planned(mixture) or {}).items()}
    found = source.trace(mixture)
    facts = model_facts(source.model, has_importance=source.importance)
    decided: dict[str, Rule] = {}
    for rule, match in found.matches:
        named = [tensor for tensor in found.tensors if tensor.name in match.named]
        rank = 0
        for tensor in named:
            if tensor.name in taken:
                continue
            stored = source.model.source_type(tensor)
            own = tensor_facts(
                tensor, rank=rank, count=len(named), covered=source.importance, source_type=stored
            )
            in_layers = rule.layers is None or rule.layers.contains(tensor.layer, found.n_layers)
            if in_layers and (rule.when is None or rule.when.evaluate({**facts, **own})):
                decided.setdefault(tensor.name, rule)
            rank += 1
    types = {}
    for tensor in found.tensors:
        decider = decided.get(tensor.name)
        wanted = (
            decider.type
            if decider is not None
            else mixture.default
            if tensor.name in source.reached
            else KEEP
        )
        kept = wanted in (None, KEEP)
        types[tensor.name] = tensor.dtype if kept else source.fallback(wanted or KEEP, tensor)
    return types
