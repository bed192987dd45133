"""Companion tensors: the factors that some formats keep beside a matrix, as tensors that the plan sees.

llama.cpp multiplies what it decodes by `NAME.scale`, if the file has one: one float32 for a matrix, one for each
expert of a stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import xxhash

from quantrecipe.api import QuantFormat
from quantrecipe.errors import PlanError
from quantrecipe.plan.plan import Assignment
from quantrecipe.tensor import TensorInfo, tensor_order

__all__ = ["companion_name", "with_companions"]

_WEIGHT = ".weight"


def companion_name(tensor: TensorInfo, suffix: str) -> str:
    """blk.0.attn_q.weight, "scale" → blk.0.attn_q.scale."""
    return f"{tensor.name.removesuffix(_WEIGHT)}.{suffix}"


def with_companions(
    assignments: Sequence[Assignment], model: Sequence[TensorInfo], float32: QuantFormat
) -> list[Assignment]:
    """The assignments and those of their companions, in the order in which they are written.

    PlanError where the model has a tensor of a companion's name.
    """
    companions = [
        _companion(a, a.format.spec.companion, float32)
        for a in assignments
        if a.format.spec.companion is not None and not a.copied
    ]
    if not companions:
        return list(assignments)
    taken = {tensor.name for tensor in model}
    if double := next((c for c in companions if c.tensor.name in taken), None):
        raise PlanError(
            f"the model has a tensor {double.tensor.name} already, where {double.owner} would keep its factors",
            "give that tensor another type",
        )
    return sorted([*assignments, *companions], key=lambda a: tensor_order(a.tensor))


def _companion(a: Assignment, suffix: str, float32: QuantFormat) -> Assignment:
    shape = (a.tensor.experts,)
    tensor = TensorInfo.from_name(companion_name(a.tensor, suffix), shape, "F32")
    return replace(
        a,
        tensor=tensor,
        format=float32,
        nbytes=float32.spec.tensor_bytes(shape),
        because=f"goes with {a.type}",
        why="",
        wanted=None,
        misfit="",
        importance=False,
        owner=a.tensor.name,
        encoding=xxhash.xxh3_128_hexdigest(f"companion of {a.encoding}".encode()),
    )
