"""Experts: the matrices of a layer's experts, stored one by one, become one 3-D tensor.

    model.layers.0.mlp.experts.0.up_proj.weight  (rows, cols)  ┐
    model.layers.0.mlp.experts.1.up_proj.weight  (rows, cols)  ├▶ blk.0.ffn_up_exps.weight (experts, rows, cols)
    …                                                          ┘

Newer checkpoints hold them stacked already, gate and up in one tensor, gate's rows first in each expert:

    model.layers.0.mlp.experts.gate_up_proj  (experts, 2 · rows, cols)
    model.layers.0.mlp.experts.down_proj     (experts, cols, rows)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Never

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Extent
from quantrecipe.model.safetensors import StoredTensor
from quantrecipe.model.storable import check_storable

__all__ = ["ExpertNames", "Stack", "stack", "unpack"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertNames:
    """How the experts of a layer are called, under `model.layers.N.`.

    module:   "mlp.experts"
    matrices: name in a single expert → what the tensor name map calls the stack, in the order of the GGUF
    """

    module: str
    matrices: dict[str, str]

    def parse(self, name: str) -> tuple[int, int, str] | None:
        """Layer, expert and matrix of "model.layers.3.mlp.experts.7.up_proj.weight"; None for what isn't one."""
        match = re.fullmatch(rf"model\.layers\.(\d+)\.{re.escape(self.module)}\.(\d+)\.(\w+)\.weight", name)
        if match is None or match[3] not in self.matrices:
            return None
        return int(match[1]), int(match[2]), match[3]

    def name(self, layer: int, expert: int, matrix: str) -> str:
        """Return the name that `parse` reads."""
        return f"model.layers.{layer}.{self.module}.{expert}.{matrix}.weight"

    def is_stacked(self, name: str) -> bool:
        """True for "model.layers.3.mlp.experts.gate_up_proj" and its down_proj."""
        return (
            re.fullmatch(rf".*\.{re.escape(self.module)}\.(gate_up|down)_proj(\.weight)?", name) is not None
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """Matrices of experts, one after the other: a 3-D tensor. `name` is what the tensor name map knows."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    extents: tuple[Extent, ...]


def stack(names: ExpertNames, layer: int, found: dict[tuple[int, str], StoredTensor]) -> Iterator[Stack]:
    """The stacks of a layer whose experts are all there: (expert, matrix) → stored tensor."""
    experts = 1 + max(expert for expert, _ in found)
    for matrix, stacked in names.matrices.items():
        parts = [found[expert, matrix] for expert in range(experts)]
        check_storable(parts[0])
        for part in parts:
            if (part.shape, part.dtype) != (parts[0].shape, parts[0].dtype) or len(part.shape) != 2:
                what = f"is {part.dtype} {part.shape}, unlike {parts[0].name!r}: {parts[0].dtype} {parts[0].shape}"
                _fail(part, what)
        yield Stack(
            name=stacked.format(layer=layer),
            shape=(experts, *parts[0].shape),
            dtype=parts[0].dtype,
            extents=tuple(part.extent for part in parts),
        )


def unpack(stored: StoredTensor) -> Iterator[Stack]:
    """What is stacked already: `down_proj` as it is; `gate_up_proj` as two, whose rows take turns by expert."""
    check_storable(stored)
    if stored.name.removesuffix(".weight").endswith("down_proj"):
        name = stored.name.removesuffix(".weight") + ".weight"
        yield Stack(name=name, shape=stored.shape, dtype=stored.dtype, extents=(stored.extent,))
        return
    if len(stored.shape) != 3 or stored.shape[1] % 2:
        _fail(stored, f"has the shape {stored.shape} (expected: experts, 2 · rows, cols)")
    experts, rows, cols = stored.shape
    half = stored.extent.nbytes // (2 * experts)
    for place, matrix in enumerate(("gate_proj", "up_proj")):
        yield Stack(
            name=stored.name.removesuffix(".weight").removesuffix("gate_up_proj") + f"{matrix}.weight",
            shape=(experts, rows // 2, cols),
            dtype=stored.dtype,
            extents=_every_other(stored.extent, half, place, experts),
        )


def _every_other(extent: Extent, size: int, place: int, count: int) -> tuple[Extent, ...]:
    starts: Sequence[int] = range(extent.offset + place * size, extent.offset + 2 * size * count, 2 * size)
    return tuple(
        Extent(path=extent.path, offset=start, nbytes=size, file_size=extent.file_size) for start in starts
    )


def _fail(stored: StoredTensor, what: str) -> Never:
    raise ModelError(f"tensor {stored.name!r} {what}", "download the model again", file=stored.extent.path)
