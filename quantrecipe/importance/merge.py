"""merged: importance matrices of one model, added up; as llama-imatrix adds several --in-file.

Sums and counts of each tensor are added, so that a file counts by the tokens that it was measured on. Weights
are ratios: brought to whole numbers (0.7 and 0.3 are 7 and 3), each says how many times its file counts. So
counts stay whole, and an expert that was seen at all stays seen.

Source: llama.cpp, tools/imatrix/imatrix.cpp: load_imatrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.errors import ImportanceError, Problem, abridged
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.measurement import (
    MeasuredTensor,
    Measurement,
    chunk_size_of,
    chunks_of,
    measured,
)
from quantrecipe.importance.provenance import joined

if TYPE_CHECKING:
    from quantrecipe.importance.matrix import FloatArray

__all__ = ["merged", "whole_ratios"]

_LARGEST_DENOMINATOR = 1000  # a weight such as 0.333 is meant as a third, or as 333 of 1,000
_LARGEST_RATIO = 10_000  # sums are float32: far beyond it the smaller file would be lost in rounding


@dataclass(frozen=True, slots=True)
class _Part:
    """A file's share of a tensor."""

    path: Path
    times: int
    tensor: MeasuredTensor


def merged(
    matrices: Sequence[Importance],
    *,
    weights: Sequence[float] = (),
    chunk_size: int | None = None,
    other_models: bool = False,
) -> Measurement:
    """The sum of several matrices, each taken `weights` times (once, where there are none).

    Tensors that only some files have are taken from those. ImportanceError where the files don't belong to one
    model: a tensor has different sizes, two files have nothing in common, or two state different models (unless
    `other_models`, which is for models of one shape, such as a base model and its fine-tune).
    """
    if not other_models:
        _refuse_other_models(matrices)
    size = chunk_size or chunk_size_of(matrices)
    ratios = whole_ratios(weights) if weights else (1,) * len(matrices)
    parts: dict[str, list[_Part]] = {}
    for matrix, times in zip(matrices, ratios, strict=True):
        if parts and not parts.keys() & matrix.entries.keys():
            raise ImportanceError(
                "has no tensor in common with the other files",
                "merge matrices of one model",
                file=matrix.path,
            )
        for tensor in measured(matrix, chunk_size=size).tensors:
            parts.setdefault(tensor.name, []).append(_Part(matrix.path, times, tensor))
    _refuse_other_sizes(parts)
    tensors = tuple(_sum(parts[name]) for name in sorted(parts))
    return Measurement(
        tensors=tensors,
        datasets=tuple(name for matrix in matrices for name in matrix.datasets),
        chunks=chunks_of(tensors, size),
        chunk_size=size,
        provenance=joined(
            [(it.provenance, times, it.datasets) for it, times in zip(matrices, ratios, strict=True)]
        ),
    )


def whole_ratios(weights: Sequence[float]) -> tuple[int, ...]:
    """The smallest whole numbers in these proportions: (0.7, 0.3) → (7, 3). ImportanceError where there are none."""
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise ImportanceError(
            f"a weight is not positive: {_listed(weights)}", "leave out the file that shouldn't count"
        )
    fractions = [Fraction(weight).limit_denominator(_LARGEST_DENOMINATOR) for weight in weights]
    common = math.lcm(*(fraction.denominator for fraction in fractions))
    whole = [int(fraction * common) for fraction in fractions]
    whole = [number // (math.gcd(*whole) or 1) for number in whole]
    if not all(0 < number <= _LARGEST_RATIO for number in whole):
        raise ImportanceError(
            f"the weights {_listed(weights)} have no simple ratio",
            f"give ratios such as 2,1 (whole numbers up to {_LARGEST_RATIO:,}, or fractions that come to those)",
        )
    return tuple(whole)


def _listed(weights: Sequence[float]) -> str:
    return ", ".join(f"{weight:g}" for weight in weights)


def _refuse_other_models(matrices: Sequence[Importance]) -> None:
    stated = [matrix for matrix in matrices if matrix.fingerprint]
    problems = [
        Problem(
            what=f"is of another model than {stated[0].path}: {matrix.fingerprint} (there: {stated[0].fingerprint})",
            remedy="merge matrices of one model; --imatrix-of-another-model adds them up all the same",
            file=matrix.path,
        )
        for matrix in stated[1:]
        if matrix.fingerprint != stated[0].fingerprint
    ]
    if problems:
        raise ImportanceError(abridged(problems))


def _refuse_other_sizes(parts: dict[str, list[_Part]]) -> None:
    problems = []
    for name, some in parts.items():
        first = some[0]
        for part in some[1:]:
            what = None
            if part.tensor.size != first.tensor.size:
                what = f"{name} has {part.tensor.size:,} values (expected: {first.tensor.size:,}"
            elif len({1, len(part.tensor.counts), len(first.tensor.counts)}) > 2:
                what = f"{name} has {len(part.tensor.counts)} counts (expected: {len(first.tensor.counts)}"
            if what:
                what += f", as in {first.path})"
                problems.append(Problem(what=what, remedy="merge matrices of one model", file=part.path))
    if problems:
        raise ImportanceError(abridged(problems))


def _sum(parts: Sequence[_Part]) -> MeasuredTensor:
    n_counts = max(len(part.tensor.counts) for part in parts)
    counts = [0] * n_counts
    for part in parts:
        own = part.tensor.counts
        for number, count in enumerate(own * n_counts if len(own) == 1 else own):
            counts[number] += part.times * count

    def read() -> FloatArray:
        total = np.zeros(parts[0].tensor.size, np.float32)
        for part in parts:
            sums = part.tensor.read().reshape(-1)
            total += sums if part.times == 1 else sums * np.float32(part.times)
        return total.reshape(n_counts, -1)

    first = parts[0].tensor
    return MeasuredTensor(name=first.name, size=first.size, counts=tuple(counts), read=read)
