"""NVFP4 of a checkpoint: blocks, and the factors of whole matrices, which are tensors of their own in a GGUF.

    X.weight  + X.weight_scale     → X.weight       NVFP4
    X.weight_scale_2               → X.scale        F32, one number for each matrix; llama.cpp multiplies by it
    X.input_scale                  → X.input_scale  F32, the same of the activations

Factors that are all 1 are left out. So a few bytes are read when a model is opened. The factors of experts that are
stored one by one are of one stack: they are left out together, or all of them are there.

Source: llama.cpp's conversion/base.py, _generate_nvfp4_tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from quantrecipe.model.source.layout import reshape
from quantrecipe.model.source.reading import read_whole
from quantrecipe.model.source.repack import NVFP4
from quantrecipe.model.source.source import Constant, TensorSource, fail
from quantrecipe.model.tensor_reader import TensorReader

__all__ = ["NVFP4Tensor", "in_stack", "nvfp4_sources"]

_EXPERT = re.compile(r"\.experts\.\d+\.")
_FLOATS = ("F32", "F16", "BF16")
_NEAR, _NEAR_IN_STACK = 1e-6, 1e-6 + 1e-5
"""How far from 1 a factor may be and still be left out. In a stack it is the converter's np.allclose(…, atol=1e-6)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NVFP4Tensor:
    """A tensor in parts. name: what it becomes ("X.weight"); factor, inputs: None where they aren't stored."""

    name: str
    weights: TensorSource
    scales: TensorSource
    factor: TensorSource | None
    inputs: TensorSource | None

    def named(self, suffix: str) -> str:
        """The name of a companion: "X.scale"."""
        return f"{self.name.removesuffix('.weight')}.{suffix}"


def in_stack(name: str) -> str:
    """A name without the number of its expert: the same for all that are to be one stack."""
    return _EXPERT.sub(".experts.*.", name)


def nvfp4_sources(found: Sequence[NVFP4Tensor]) -> dict[str, TensorSource]:
    """The tensors by name, and those of their factors that are needed. ModelError where parts don't fit."""
    made: dict[str, TensorSource] = {it.name: NVFP4(weights=it.weights, scales=it.scales) for it in found}
    stacks: dict[str, list[NVFP4Tensor]] = {}
    for it in found:
        stacks.setdefault(in_stack(it.name), []).append(it)
    with TensorReader() as reader:
        for members in stacks.values():
            made.update(_companions("scale", [(it, it.factor) for it in members], made, reader))
            made.update(_companions("input_scale", [(it, it.inputs) for it in members], made, reader))
    return made


def _companions(
    suffix: str,
    factors: Sequence[tuple[NVFP4Tensor, TensorSource | None]],
    made: dict[str, TensorSource],
    reader: TensorReader,
) -> Iterator[tuple[str, TensorSource]]:
    """The factors of a matrix, or of all experts of a stack; nothing where they are trivial."""
    flat: list[TensorSource] = []
    for owner, factor in factors:
        matrices = prod(made[owner.name].shape[:-2])
        if (
            factor is None
        ):  # as the converter has it: an expert that no token came to has no scale of its inputs
            ones = np.ones(matrices, "<f4").tobytes()
            flat.append(Constant(name=owner.named(suffix), shape=(matrices,), dtype="F32", data=ones))
        elif factor.dtype not in _FLOATS or prod(factor.shape) != matrices:
            fail(factor, f"can't be a factor (expected: {matrices} of {', '.join(_FLOATS)})")
        else:
            flat.append(reshape(factor, (matrices,)))
    if not _trivial(flat, reader):
        for (owner, _), it in zip(factors, flat, strict=True):
            yield owner.named(suffix), it


def _trivial(factors: Iterable[TensorSource], reader: TensorReader) -> bool:
    """Whether all of them are 1. No more are read than it takes to say that they aren't."""
    factors = list(factors)
    near = _NEAR if len(factors) == 1 else _NEAR_IN_STACK
    return all(
        it.shape == (1,) and bool(np.all(np.abs(read_whole(it, reader, tensor=it.stored_name) - 1) <= near))
        for it in factors
    )
