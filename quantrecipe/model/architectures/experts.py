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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Never, TypeAlias

from quantrecipe.errors import ModelError
from quantrecipe.model.source import layout
from quantrecipe.model.source.source import TensorSource
from quantrecipe.model.storable import check_storable

__all__ = ["ExpertNames", "Named", "stack", "unpack"]

Named: TypeAlias = tuple[str, TensorSource]
"""A tensor by a name that the tensor name map knows."""


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


def stack(names: ExpertNames, layer: int, found: Mapping[tuple[int, str], TensorSource]) -> Iterator[Named]:
    """The stacks of a layer whose experts are all there: (expert, matrix) → content."""
    experts = 1 + max(expert for expert, _ in found)
    for matrix, stacked in names.matrices.items():
        parts = [found[expert, matrix] for expert in range(experts)]
        first = parts[0]
        check_storable(first)
        for part in parts:
            if (part.shape, part.dtype) != (first.shape, first.dtype) or len(part.shape) != 2:
                what = (
                    f"is {part.dtype} {part.shape}, unlike {first.stored_name!r}: {first.dtype} {first.shape}"
                )
                _fail(part, what)
        yield stacked.format(layer=layer), layout.stack(parts)


def unpack(name: str, source: TensorSource) -> Iterator[Named]:
    """What is stacked already: `down_proj` as it is; of `gate_up_proj`, the halves of each expert."""
    check_storable(source)
    name = name.removesuffix(".weight")
    if name.endswith("down_proj"):
        yield f"{name}.weight", source
        return
    if len(source.shape) != 3 or source.rows % 2:
        _fail(source, f"has the shape {source.shape} (expected: experts, 2 · rows, cols)")
    half = source.rows // 2
    for place, matrix in enumerate(("gate_proj", "up_proj")):
        rows = layout.rows(source, place * half, (place + 1) * half)
        yield f"{name.removesuffix('gate_up_proj')}{matrix}.weight", rows


def _fail(source: TensorSource, what: str) -> Never:
    raise ModelError(
        f"tensor {source.stored_name!r} {what}", "download the model again", file=source.extents[0].path
    )
