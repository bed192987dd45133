"""Companion tensors: the factors that some formats keep beside a matrix, as tensors that the plan sees.

llama.cpp multiplies what it decodes by `NAME.scale`, if the file has one: one float32 for a matrix, one for each
expert of a stack. `NAME.input_scale` is the same of activations, of models that were published as NVFP4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from functools import cache

import xxhash

from quantrecipe.api import QuantFormat
from quantrecipe.errors import PlanError
from quantrecipe.model.model import Model
from quantrecipe.packaged import packaged_table
from quantrecipe.plan.plan import Assignment
from quantrecipe.tensor import TensorInfo, tensor_order

__all__ = ["absorbed", "companion_name", "companion_of", "with_companions"]

_WEIGHT = ".weight"
_OF_INPUTS = "input_scale"


def companion_name(tensor: TensorInfo, suffix: str) -> str:
    """Name of the companion of a tensor: for blk.0.attn_q.weight and "scale" it is blk.0.attn_q.scale."""
    return f"{tensor.name.removesuffix(_WEIGHT)}.{suffix}"


def companion_of(tensor: TensorInfo, suffix: str) -> TensorInfo:
    """The tensor that holds the factors of a stack of matrices: one float32 for each matrix."""
    return TensorInfo.from_name(companion_name(tensor, suffix), (tensor.experts,), "F32")


def absorbed(
    decided: Iterable[tuple[TensorInfo, bool]], model: Model, formats: Mapping[str, QuantFormat]
) -> frozenset[str]:
    """Names of the model's companions whose owners get another type: they are multiplied in, and aren't written.

    decided: each tensor, and whether its bytes are copied
    """
    there = {tensor.name for tensor in model.tensors}
    return frozenset(
        name
        for tensor, copied in decided
        if not copied and (fmt := formats.get(tensor.dtype)) is not None and fmt.spec.companion is not None
        for suffix in (fmt.spec.companion, _OF_INPUTS)
        if (name := companion_name(tensor, suffix)) in there
    )


def with_companions(
    assignments: Sequence[Assignment], model: Model, float32: QuantFormat
) -> list[Assignment]:
    """The assignments and those of their companions, in the order in which they are written.

    PlanError where llama.cpp would not multiply by them, or the model has a tensor of a companion's name.
    """
    owners = [a for a in assignments if a.format.spec.companion is not None and not a.copied]
    companions = [_companion(a, a.format.spec.companion or "", float32) for a in owners]
    if not companions:
        return list(assignments)
    taken = {tensor.name for tensor in model.tensors}
    if double := next((c for c in companions if c.tensor.name in taken), None):
        raise PlanError(
            f"the model has a tensor {double.tensor.name} already, where {double.owner} would keep its factors",
            "give that tensor another type",
        )
    for owner in owners:
        _refuse_unused(owner, model, taken)
    return sorted([*assignments, *companions], key=lambda a: tensor_order(a.tensor))


def _refuse_unused(owner: Assignment, model: Model, names: Set[str]) -> None:
    """PlanError for a matrix whose factors llama.cpp would load and not use, or not take."""
    if not owner.tensor.role.startswith("ffn_"):
        return
    if model.arch not in _scaled_architectures():
        raise PlanError(
            f"{owner.tensor.name} can't be {owner.type}: llama.cpp doesn't multiply the feed-forward matrices of "
            f"{model.arch!r} by the factors that {owner.type} keeps beside them",
            "give the feed-forward matrices another type, such as MXFP4",
        )
    if owner.tensor.name.removesuffix(_WEIGHT) + ".bias" in names:
        raise PlanError(
            f"{owner.tensor.name} can't be {owner.type}: llama.cpp refuses its factors where there is a bias",
            "give it another type, such as MXFP4",
        )


@cache
def _scaled_architectures() -> frozenset[str]:
    return frozenset(packaged_table("plan/scaled_architectures.toml")["architectures"])


def _companion(a: Assignment, suffix: str, float32: QuantFormat) -> Assignment:
    tensor = companion_of(a.tensor, suffix)
    return replace(
        a,
        tensor=tensor,
        format=float32,
        nbytes=float32.spec.tensor_bytes(tensor.shape),
        because=f"goes with {a.type}",
        why="",
        wanted=None,
        misfit="",
        importance=False,
        encoder=None,
        inputs="",
        made_of="",
        settled={},
        lacking="",
        owner=a.tensor.name,
        encoding=xxhash.xxh3_128_hexdigest(f"companion of {a.encoding}".encode()),
    )
