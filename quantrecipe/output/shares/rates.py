"""Rates: how long a weight takes one thread of this machine, for each way in which a plan makes some.

What is timed is `apply` itself: rows of random weights, of the tensor's length, go from a file through its pipeline to
memory. What counts is the processor's time, so that other programs don't matter.

An encoder that knows a matrix's inputs is timed by itself, for short rows: what it does for a weight grows with the
length of the row, and what it prepares with the third power of it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from quantrecipe.api import Encoder, InputStatistics
from quantrecipe.importance.matrix import Importance
from quantrecipe.model.source.source import Extent, Stored
from quantrecipe.output.progress import Silent
from quantrecipe.output.row_units import CHUNK_WEIGHTS, PART_WEIGHTS
from quantrecipe.output.shares.make import Maker
from quantrecipe.output.shares.units import RowRange, WorkUnit
from quantrecipe.output.warm import compile_kernels
from quantrecipe.output.work_folder import work_folder
from quantrecipe.plan.companions import companion_of
from quantrecipe.plan.plan import Assignment, Plan, PlannedFile
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["Rates", "given_rate", "measured_rates"]

_CHUNKS = 3
"""Of rows that are timed: more than one, since each costs something besides its weights."""
_ROUNDS, _LONG = 3, 0.5
"""Timed so often, unless that takes so many seconds; the shortest counts."""
_SHORT = 1024
"""Columns for which an encoder that knows inputs is timed: of 18,432 it would prepare for minutes."""
_NAME = "blk.0.ffn_up.weight"

_Way: TypeAlias = tuple[str, str, bool, str]
"""The source's type, the type that it becomes, whether importance is used, the encoder; "copied" where none is used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds of one thread.

    weights:  for a weight, by the way that it is made; with inputs, for each column besides
    prepare:  for the inputs of a matrix, by encoder: of so many columns, as seconds / columns³
    measured: True if it was this machine that was timed
    """

    weights: Mapping[_Way, float]
    prepare: Mapping[str, float]
    measured: bool

    def weight_of(self, a: Assignment) -> float:
        """For a weight of a tensor, with its share of what is prepared for its matrix."""
        if _ANY in self.weights:
            return self.weights[_ANY]
        seconds = self.weights.get(_way(a), 0.0)
        if a.inputs and a.encoder is not None:
            seconds *= a.tensor.cols
            seconds += self.prepare.get(a.encoder.name, 0.0) * a.tensor.cols**2 / a.tensor.rows
        return seconds

    def mean(self, plan: Plan) -> float:
        """For a weight of the plan, on average."""
        made = [a for a in plan.assignments if a.owner is None]
        return sum(self.weight_of(a) * a.tensor.size for a in made) / max(1, sum(a.tensor.size for a in made))


_ANY: _Way = ("", "", False, "")


def given_rate(weights: float) -> Rates:
    """So many weights in a second of one thread, whatever they become."""
    return Rates(weights={_ANY: 1 / weights}, prepare={}, measured=False)


def measured_rates(plan: Plan, registry: Registry) -> Rates:
    """Those of this machine, for all that the plan has. It takes some seconds, and kernels have to be compiled."""
    compile_kernels(plan.assignments, registry, Silent().compiling)
    weights: dict[_Way, float] = {}
    prepare: dict[str, float] = {}
    with work_folder(Path(tempfile.gettempdir()), "rates", remedy="name another folder in TMPDIR") as folder:
        # Long rows stand for short ones of the same kind.
        for a in sorted(plan.assignments, key=lambda it: -it.tensor.size):
            if a.owner is not None or not a.tensor.size or _way(a) in weights:
                continue
            if a.encoder is not None and a.inputs:
                cols = min(a.tensor.cols, _SHORT)
                weights[_way(a)] = _encoding(a, a.encoder, cols) / cols
                prepare.setdefault(a.encoder.name, _preparing(a, a.encoder, cols) / cols**3)
            else:
                weights[_way(a)] = _applying(plan, a, registry, folder / "rows")
    return Rates(weights=weights, prepare=prepare, measured=True)


def _way(a: Assignment) -> _Way:
    if a.copied:
        return a.tensor.dtype, "copied", False, ""
    return a.tensor.dtype, a.type, a.importance, "" if a.encoder is None else a.encoder.name


class _AnyImportance:
    """Importance for every tensor."""

    def for_tensor(self, tensor: TensorInfo) -> Any:
        rng = np.random.default_rng(0)
        return rng.uniform(0.5, 2, (tensor.experts, tensor.cols)).astype(np.float32)


class _Nowhere:
    """A sink that throws away what it gets, when it has copied it once, as the system does."""

    def __init__(self) -> None:
        self._room = np.empty(0, np.uint8)

    def write(self, data: memoryview, offset: int) -> None:
        found = np.frombuffer(data.cast("B"), np.uint8)
        if self._room.size < found.size:
            self._room = np.empty(found.size, np.uint8)
        np.copyto(self._room[: found.size], found)


def _applying(plan: Plan, a: Assignment, registry: Registry, path: Path) -> float:
    """Seconds for a weight of rows that are like a tensor's."""
    source = registry.formats[a.tensor.dtype]
    group = a.format.spec.rows_per_group * source.spec.rows_per_group
    step = max(1, CHUNK_WEIGHTS // a.tensor.cols // group) * group
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((step, a.tensor.cols), np.float32) * np.float32(0.02)
    ones = np.ones(a.tensor.cols, np.float32)
    stored = source.encode(rows, ones if source.spec.importance == "required" else None).tobytes()
    with path.open("wb") as file:
        for _ in range(_CHUNKS):
            file.write(stored)
    shape, size = (_CHUNKS * step, a.tensor.cols), _CHUNKS * len(stored)
    tensor = TensorInfo.from_name(_NAME, shape, a.tensor.dtype)
    extent = Extent(path=path, offset=0, nbytes=size)
    model = replace(
        plan.model,
        tensors=(tensor,),
        sources={_NAME: Stored(name=_NAME, shape=shape, dtype=a.tensor.dtype, extents=(extent,))},
        files=(path,),
    )
    nbytes = shape[0] * a.format.spec.row_bytes(a.tensor.cols)
    sample = replace(a, tensor=tensor, nbytes=nbytes, offset=0)
    assignments = [sample]
    if (suffix := a.format.spec.companion) is not None and not a.copied:
        factors, float32 = companion_of(tensor, suffix), registry.formats["F32"]
        assignments.append(
            Assignment(
                tensor=factors, format=float32, nbytes=4, offset=nbytes, because=a.because, owner=_NAME
            )
        )
    maker = Maker(
        replace(
            plan,
            model=model,
            files=(PlannedFile(metadata={}, assignments=tuple(assignments), header=0, nbytes=nbytes),),
            importance=cast(Importance, _AnyImportance()) if a.importance else None,
        ),
        registry,
        threads=1,
        nan="allow",
        progress=Silent(),
    )
    part = RowRange(tensor=_NAME, start=0, stop=shape[0])
    unit = WorkUnit(number=0, ranges=(part,), nbytes=size + nbytes, made_bytes=nbytes, size=tensor.size)
    return _shortest(lambda: maker.make(unit, _Nowhere())) / tensor.size


def _encoding(a: Assignment, encoder: Encoder, cols: int) -> float:
    """Seconds for a weight in rows of so many columns, with what is prepared for them."""
    group = a.format.spec.rows_per_group
    n = max(group, min(PART_WEIGHTS // cols, a.tensor.rows) // group * group)
    rows = np.random.default_rng(0).standard_normal((n, cols), np.float32) * np.float32(0.02)
    importance = np.ones(cols, np.float32) if a.importance else None
    out = np.empty((n, a.format.spec.row_bytes(cols)), np.uint8)
    prepared = encoder.prepare(_statistics(cols), fmt=a.format)
    return _shortest(lambda: encoder.encode(rows, a.format, importance, prepared, out=out)) / rows.size


def _preparing(a: Assignment, encoder: Encoder, cols: int) -> float:
    statistics = _statistics(cols)
    return _shortest(lambda: encoder.prepare(statistics, fmt=a.format))


def _statistics(cols: int) -> InputStatistics:
    """Of random inputs."""
    inputs = np.random.default_rng(0).standard_normal((2 * cols, cols), np.float32)
    return InputStatistics(gram=(inputs.T @ inputs / len(inputs)).astype(np.float32), tokens=len(inputs))


def _shortest(do: Callable[[], object]) -> float:
    """Seconds of the processor, of the quickest of a few times."""
    found: list[float] = []
    for number in range(1 + _ROUNDS):
        begin = time.process_time()
        do()
        seconds = time.process_time() - begin
        if number or seconds > _LONG:  # the first time loads kernels
            found.append(seconds)
        if sum(found) > _LONG:
            break
    return min(found)
