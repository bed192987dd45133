"""Tensors of a checkpoint → tensors of the GGUF: names, order, stacked experts, rearranged heads.

The order is the converter's: computed tensors first, then file by file, by name within a file, and a stack of
experts where the last of them comes. Names go through gguf's tensor name map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import gguf

from quantrecipe.errors import ModelError, Problem, abridged
from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.completeness import check_tensors
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.experts import ExpertNames, Named, stack, unpack
from quantrecipe.model.architectures.hyperparameters import EXPERTS, LAYERS
from quantrecipe.model.architectures.quantized import weights_of
from quantrecipe.model.safetensors import Checkpoint
from quantrecipe.model.source.layout import rope_order
from quantrecipe.model.source.source import Constant, TensorSource
from quantrecipe.model.storable import as_tensor_info
from quantrecipe.tensor import TensorInfo

__all__ = ["Converted", "convert_tensors", "parameters"]

Converted = tuple[TensorInfo, TensorSource]

_NOT_WEIGHTS = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")
"""Buffers of old checkpoints that follow from the configuration."""
_HEADS = {"q_proj": ("num_attention_heads",), "k_proj": ("num_key_value_heads", "num_attention_heads")}
"""Projections whose rows are rotated, and what counts their heads."""


def convert_tensors(arch: Architecture, config: Config, checkpoint: Checkpoint) -> list[Converted]:
    """All tensors, in the order of the GGUF. ModelError where they aren't those that llama.cpp loads."""
    layers = config.need(*LAYERS)
    if layers > len(checkpoint.tensors):
        what = f"says that there are {layers} layers, but there are only {len(checkpoint.tensors)} tensors"
        config.fail(what)
    names = gguf.get_tensor_name_map(_number_of(arch.name), layers)
    made: dict[str, Converted] = {}
    taken: dict[str, str] = {}
    unknown: list[str] = []
    for stored, source in _expand(arch, config, checkpoint):
        name = names.get_name(stored, try_suffixes=(".weight", ".bias"))
        if name is None:
            unknown.append(stored)
            continue
        if name in taken:
            what = f"{taken[name]!r} and {stored!r} would both be called {name!r}"
            raise ModelError(what, "delete one of them", file=config.folder)
        taken[name] = stored
        made[name] = as_tensor_info(source, name), source
    if unknown:
        raise ModelError(_unknown(arch, config, unknown))
    check_tensors(arch, config, {name: info for name, (info, _) in made.items()}, taken, names)
    # last, since what it computes is only as sound as the sizes that were checked
    computed = {name: _computed(name, data) for name, data in arch.computed(config).items()}
    if both := sorted(computed.keys() & made.keys()):
        what = f"tensor {taken[both[0]]!r} follows from config.json, too"
        raise ModelError(what, "delete it from the checkpoint", file=config.folder)
    return [*computed.values(), *made.values()]


def _number_of(name: str) -> gguf.MODEL_ARCH:
    return next(number for number, known in gguf.MODEL_ARCH_NAMES.items() if known == name)


def _expand(arch: Architecture, config: Config, checkpoint: Checkpoint) -> Iterator[Named]:
    """Go through the tensors in the converter's order, with experts in stacks, and rows in the GGUF's order."""
    place = {path: number for number, path in enumerate(checkpoint.files)}
    weights = weights_of(config, checkpoint)
    ordered = sorted(weights.items(), key=lambda item: (place[item[1].extents[0].path], item[0]))
    waiting: dict[int, dict[tuple[int, str], TensorSource]] = {}
    for name, source in ordered:
        if name.endswith(_NOT_WEIGHTS):
            continue
        if arch.experts is not None and arch.experts.is_stacked(name):
            yield from unpack(name, source)
        elif arch.experts is not None and (parsed := arch.experts.parse(name)) is not None:
            layer, expert, matrix = parsed
            count = config.need(*EXPERTS)
            if expert >= count:
                what = f"says {config.called(*EXPERTS)}: {count}, but there is a tensor {name!r}"
                config.fail(what, "correct it, or download the model again")
            found = waiting.setdefault(layer, {})
            found[expert, matrix] = source
            if len(found) == count * len(arch.experts.matrices):
                yield from stack(arch.experts, layer, waiting.pop(layer))
        else:
            yield name, _in_rope_order(config, name, source) if arch.rotary else source
    if waiting and arch.experts is not None:
        if (count := config.need(*EXPERTS)) > len(ordered):
            what = f"says {config.called(*EXPERTS)}: {count}, but there are only {len(ordered)} tensors"
            config.fail(what, "correct it, or download the model again")
        raise ModelError(abridged(list(_missing_experts(arch.experts, config, waiting))))


def _missing_experts(
    names: ExpertNames, config: Config, waiting: dict[int, dict[tuple[int, str], TensorSource]]
) -> Iterator[Problem]:
    for layer, found in sorted(waiting.items()):
        for expert, matrix in product(range(config.need(*EXPERTS)), names.matrices):
            if (expert, matrix) not in found:
                what = f"tensor {names.name(layer, expert, matrix)!r} is missing"
                remedy = f"download the model again, or correct {config.called(*EXPERTS)} in config.json"
                yield Problem(what=what, remedy=remedy, file=config.folder)


def _computed(name: str, data: bytes) -> Converted:
    source = Constant(name=name, shape=(len(data) // 4,), dtype="F32", data=data)
    return TensorInfo.from_name(name, source.shape, source.dtype), source


def _in_rope_order(config: Config, name: str, source: TensorSource) -> TensorSource:
    """The rows (or biases) of q and k as llama.cpp wants them; all others as they are."""
    projection = name.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]
    if projection not in _HEADS:
        return source
    counts = (config.count(count) for count in _HEADS[projection])
    heads = next((count for count in counts if count is not None), 0)
    rows = source.shape[0]
    if not heads or rows % (2 * heads):
        what = f"tensor {name!r} has {rows} rows, which don't divide among {heads} heads of even length"
        raise ModelError(what, "check num_attention_heads and num_key_value_heads", file=config.path)
    return rope_order(source, heads)


def _unknown(arch: Architecture, config: Config, names: list[str]) -> Sequence[Problem]:
    return abridged(
        [
            Problem(
                what=f"tensor {name!r} is none that a {arch.name} of {config.need(*LAYERS)} layers has",
                remedy="convert it with llama.cpp's converter to a BF16 GGUF, and give that",
                file=config.path,
            )
            for name in names
        ]
    )


def parameters(tensors: list[Converted]) -> tuple[int, int, int, int]:
    """Weights in all, shared by all tokens, of one expert; and the number of experts: what a size label is made of."""
    total = shared = expert = experts = stacks = 0
    for info, _ in tensors:
        total += info.size
        if "_exps." in info.name and len(info.shape) >= 3:
            expert += prod(info.shape[-2:])
            experts += info.shape[-3]
            stacks += 1
        else:
            shared += info.size
    return total, shared, expert, experts // stacks if stacks else 0
