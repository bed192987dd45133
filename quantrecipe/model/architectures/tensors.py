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
from quantrecipe.model.architectures.experts import ExpertNames, Stack, stack, unpack
from quantrecipe.model.architectures.hyperparameters import EXPERTS, LAYERS
from quantrecipe.model.model import TensorSource
from quantrecipe.model.safetensors import Checkpoint, StoredTensor
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
    for stored in _expand(arch, config, checkpoint):
        name = names.get_name(stored.name, try_suffixes=(".weight", ".bias"))
        if name is None:
            unknown.append(stored.name)
            continue
        if name in taken:
            what = f"{taken[name]!r} and {stored.name!r} would both be called {name!r}"
            raise ModelError(what, "delete one of them", file=config.folder)
        taken[name] = stored.name
        made[name] = (
            _stacked(stored, name) if isinstance(stored, Stack) else _plain(arch, config, stored, name)
        )
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


def _expand(arch: Architecture, config: Config, checkpoint: Checkpoint) -> Iterator[StoredTensor | Stack]:
    """Go through the tensors in the converter's order, with experts in stacks."""
    place = {path: number for number, path in enumerate(checkpoint.files)}
    ordered = sorted(checkpoint.tensors.values(), key=lambda stored: (place[stored.extent.path], stored.name))
    waiting: dict[int, dict[tuple[int, str], StoredTensor]] = {}
    for stored in ordered:
        if stored.name.endswith(_NOT_WEIGHTS):
            continue
        if arch.experts is None:
            yield stored
        elif arch.experts.is_stacked(stored.name):
            yield from unpack(stored)
        elif (parsed := arch.experts.parse(stored.name)) is not None:
            layer, expert, matrix = parsed
            count = config.need(*EXPERTS)
            if expert >= count:
                what = f"says {config.called(*EXPERTS)}: {count}, but there is a tensor {stored.name!r}"
                config.fail(what, "correct it, or download the model again")
            found = waiting.setdefault(layer, {})
            found[expert, matrix] = stored
            if len(found) == count * len(arch.experts.matrices):
                yield from stack(arch.experts, layer, waiting.pop(layer))
        else:
            yield stored
    if waiting and arch.experts is not None:
        if (count := config.need(*EXPERTS)) > len(ordered):
            what = f"says {config.called(*EXPERTS)}: {count}, but there are only {len(ordered)} tensors"
            config.fail(what, "correct it, or download the model again")
        raise ModelError(abridged(list(_missing_experts(arch.experts, config, waiting))))


def _missing_experts(
    names: ExpertNames, config: Config, waiting: dict[int, dict[tuple[int, str], StoredTensor]]
) -> Iterator[Problem]:
    for layer, found in sorted(waiting.items()):
        for expert, matrix in product(range(config.need(*EXPERTS)), names.matrices):
            if (expert, matrix) not in found:
                what = f"tensor {names.name(layer, expert, matrix)!r} is missing"
                remedy = f"download the model again, or correct {config.called(*EXPERTS)} in config.json"
                yield Problem(what=what, remedy=remedy, file=config.folder)


def _computed(name: str, data: bytes) -> Converted:
    info = TensorInfo.from_name(name, (len(data) // 4,), "F32")
    return info, TensorSource(extents=(), dtype="F32", cols=info.cols, inline=data)


def _stacked(stack: Stack, name: str) -> Converted:
    info = TensorInfo.from_name(name, stack.shape, stack.dtype)
    return info, TensorSource(extents=stack.extents, dtype=stack.dtype, cols=info.cols)


def _plain(arch: Architecture, config: Config, stored: StoredTensor, name: str) -> Converted:
    info = as_tensor_info(stored, name)
    rows_per_head = _rows_per_head(config, stored) if arch.rotary else 1
    return info, TensorSource(
        extents=(stored.extent,), dtype=info.dtype, cols=info.cols, rows_per_head=rows_per_head
    )


def _rows_per_head(config: Config, stored: StoredTensor) -> int:
    """Rows of a head for q and k, whose rows (or biases) have to be rearranged; 1 for all others."""
    projection = stored.name.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]
    if projection not in _HEADS:
        return 1
    counts = (config.count(name) for name in _HEADS[projection])
    heads = next((count for count in counts if count is not None), 0)
    rows = stored.shape[0] if stored.shape else 0
    if not heads or rows % (2 * heads):
        what = (
            f"tensor {stored.name!r} has {rows} rows, which don't divide among {heads} heads of even length"
        )
        raise ModelError(what, "check num_attention_heads and num_key_value_heads", file=config.path)
    return rows // heads


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
