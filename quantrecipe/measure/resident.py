"""Resident: the model that probes are made with, nearly exact, and what it says of the text when nothing is changed.

A probe changes some tensors in it, and the next one restores them; `open_resident` has the two ways to do that. A mix
changes all that it quantizes (`Planned`).

What its type does to a probe, besides what is asked about, is measured beside each one as its **floor**: the
divergence of the resident model from itself when the same tensors are only shaken, which is to change them by no more
than their type's own rounding may (`rounding.shaken`). It is run on a sixteenth of the chunks. What shakes more tensors
moves more, so the floor of whole roles is asked for first, and serves for all probes within them where it is small
beside what they do. Mostly it isn't the weights that show in it: llama.cpp rounds the inputs of a matrix, too, to 8
bits where that is in Q8_0, and what changes in a layer has them rounded in another way in all layers behind it. Every
probe has this in it, so that what is less can't be told from nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.api import Change, QuantFormat, Reduce
from quantrecipe.core.processors import usable_processors
from quantrecipe.errors import NonFiniteError, SensitivityError
from quantrecipe.evaluate import Blocks, Positions, Reference, blocks_of
from quantrecipe.importance.matrix import Importance
from quantrecipe.measure.passes import WHOLE, Part, Passes
from quantrecipe.measure.progress import Progress
from quantrecipe.measure.rounding import Rounded, shaken
from quantrecipe.model.model import Model
from quantrecipe.output.jobs import Job, Sink
from quantrecipe.output.progress import Silent
from quantrecipe.output.stream import Stream
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.plan.statistics import Statistics
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["Decoded", "Moved", "Planned", "Resident", "Setting", "Wish", "wishes_of"]

_EVERY = 16  # of so many chunks, one is run for the floor
_SMALL = 0.05  # of a divergence: a floor that needn't be known better

Wish: TypeAlias = "str | Change | Planned"
"""What becomes of a tensor: the name of the type that it is rounded to, what changes its rows, or what a plan says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What is probed, and how. folder: for temporary files."""

    model: Model
    registry: Registry
    importance: Importance | None
    passes: Passes
    folder: Path
    progress: Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """How far the output moved, in nats.

    standard_error: of the mean, from the spread over chunks or documents; it is at least the floor
    floor:          how far it moves when the same tensors are only shaken
    """

    kld: float
    standard_error: float
    floor: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What a plan makes of a tensor, encoder and options included."""

    assignment: Assignment
    importance: Importance | None
    statistics: Statistics | None


def wishes_of(plan: Plan) -> dict[str, Planned]:
    """All that a plan quantizes. Types with factors in another tensor are left out: it has no place in the model."""
    return {
        a.tensor.name: Planned(assignment=a, importance=plan.importance, statistics=plan.statistics)
        for a in plan.assignments
        if not a.copied and a.owner is None and a.format.spec.codec and a.format.spec.companion is None
    }


class Resident(ABC):
    """The resident model. `type`: what its matrices have, of `RESIDENT_TYPES`; all but a few of them."""

    _reference: Reference
    _itself: Positions  # when nothing is changed

    def __init__(self, setting: Setting, held: Model, type_: str, together: Iterable[str] = ()) -> None:
        """held: the GGUF that the engine has; together: tensors that may be shaken besides those that are changed."""
        self.type = type_
        self._together = frozenset(together)
        self._setting, self._held = setting, held
        self._tensors = {tensor.name: tensor for tensor in setting.model.tensors}
        self._dtypes = {tensor.name: tensor.dtype for tensor in held.tensors}
        # What isn't as it was: tensor → what it is now, as `_state` says.
        self._now: dict[str, str] = {}
        self._floors: dict[frozenset[str], float] = {}

    def measure(self, part: Part = WHOLE) -> Moved:
        """Run these chunks as the model is now, and compare with what is said when nothing is changed."""
        if not self._now:
            return Moved(kld=0.0, standard_error=0.0)
        if part.first >= self._reference.chunks:
            part = WHOLE  # the text is shorter than was asked for
        kld, standard_error = self._difference(self.score(part), part)
        floor = self._floor(kld)
        return Moved(kld=kld, standard_error=max(standard_error, floor), floor=floor)

    @property
    def blocks(self) -> Blocks:
        """How positions of the text go together."""
        return blocks_of(self._reference)

    def inputs(self, names: Sequence[str], function: Reduce) -> Mapping[str, NDArray[np.float64]]:
        """What `function` makes of each matrix's inputs when nothing is changed, summed over the chunks."""
        self.change({})
        return self._inputs(names, function)

    def change(self, wishes: Mapping[str, Wish]) -> dict[str, str]:
        """Change these tensors, those that aren't yet as they are to be, and restore others that were changed.

        Digests of what `Change`s gave, by tensor name. What the engine doesn't use for text is left alone.
        """
        wishes = self._heeded(wishes)
        states = {name: _state(wish) for name, wish in wishes.items()}
        new = {
            name: wish
            for name, wish in wishes.items()
            if not states[name] or self._now.get(name) != states[name]
        }
        others = sorted(self._now.keys() - wishes.keys())
        self._now |= dict.fromkeys(new, "")  # from here on, even if it fails halfway
        changes = [
            _Changed(
                change=wish, tensor=self._tensors[name], resident=self._format(name), sink=self._sink(name)
            )
            for name, wish in new.items()
            if callable(wish)
        ]
        jobs = [self._rounding(name, wish) for name, wish in new.items() if isinstance(wish, str)]
        jobs += [self._encoding(name, wish) for name, wish in new.items() if isinstance(wish, Planned)]
        jobs += [self._job(it.tensor, self._setting.registry.format("F32"), it) for it in changes]
        self._restore(others)
        self._stream(jobs)
        self._now = states
        return {it.tensor.name: it.digest for it in changes}

    def _stream(self, jobs: Sequence[Job]) -> None:
        Stream(
            self._setting.model,
            jobs,
            self._setting.registry,
            threads=self._setting.passes.threads or usable_processors(),
            nan="error",
            progress=Silent(),
        ).run()

    def _rounding(self, name: str, type_: str) -> Job:
        tensor, matrix = self._tensors[name], self._setting.importance
        inner = self._setting.registry.format(type_)
        used = matrix is not None and matrix.covers(tensor) and inner.spec.importance != "ignored"
        job = self._job(tensor, Rounded(self._format(name), inner), self._sink(name))
        return replace(job, assignment=replace(job.assignment, importance=used), importance=matrix)

    def _encoding(self, name: str, wish: Planned) -> Job:
        """The tensor as `apply` encodes it, on its way into the model as what that stands for."""
        sink = Decoded(wish.assignment, self._format(name), self._sink(name))
        return Job(
            assignment=replace(wish.assignment, offset=0),
            sink=sink,
            importance=wish.importance,
            statistics=wish.statistics,
        )

    def _job(self, tensor: TensorInfo, fmt: QuantFormat, sink: Sink) -> Job:
        """The tensor, in this format, on its way to where it lies; offsets count from there."""
        nbytes = fmt.spec.tensor_bytes(tensor.shape)
        return Job(
            assignment=Assignment(tensor=tensor, format=fmt, nbytes=nbytes, offset=0, because="a probe"),
            sink=sink,
        )

    def _format(self, name: str) -> QuantFormat:
        """The format that a tensor has in the resident model."""
        return self._setting.registry.format(self._dtypes[name])

    def _part_done(self, done: int, total: int) -> None:
        self._setting.progress.share(done / total)

    def _heeded(self, wishes: Mapping[str, Wish]) -> Mapping[str, Wish]:
        """Those wishes that can make a difference."""
        return wishes

    def _difference(self, positions: Positions, part: Part) -> tuple[float, float]:
        """How much further the output is from the reference than when nothing is changed; and the error of that."""
        chunks = part.of(range(self._reference.chunks))
        here = np.isin(self._reference.places[0], chunks)
        moved = positions.divergence - self._itself.divergence[here]
        return float(moved.mean()), _error(moved, self.blocks.block[here])

    def _floor(self, kld: float) -> float:
        """Of all in the roles of what is changed, which is spoilt then; of that alone, where this isn't small enough.

        It depends on nothing that was asked before, so that a run that goes on later finds the same.
        """
        names = frozenset(self._now)
        roles = {self._tensors[name].role for name in names}
        whole = names | {name for name in self._together if self._tensors[name].role in roles}
        if self._floor_of(whole) <= _SMALL * kld:
            return self._floor_of(whole)
        return min(self._floor_of(whole), self._floor_of(names))

    def _floor_of(self, names: frozenset[str]) -> float:
        if names not in self._floors:
            self._floors[names] = self._shaken(sorted(names))
        return self._floors[names]

    def _shaken(self, names: Sequence[str]) -> float:
        """The divergence when these tensors are shaken, which has to be all that was changed, or more."""
        self._now = dict.fromkeys(names, "")
        self._stream(
            [
                self._job(self._tensors[it], self._format(it), _Shaking(self._sink(it), it, self._dtypes[it]))
                for it in names
            ]
        )
        some = Part(every=_EVERY)
        return max(0.0, self._difference(self.score(some), some)[0])

    @abstractmethod
    def score(self, part: Part = WHOLE) -> Positions:
        """Run the model as it is now, over these chunks."""

    @abstractmethod
    def _sink(self, name: str) -> Sink:
        """Where the bytes of a tensor go; the first is at 0."""

    @abstractmethod
    def _restore(self, names: Sequence[str]) -> None: ...

    @abstractmethod
    def _inputs(self, names: Sequence[str], function: Reduce) -> Mapping[str, NDArray[np.float64]]: ...


def _state(wish: Wish) -> str:
    """What a tensor is with this wish; "" for what can't be known again."""
    if isinstance(wish, Planned):
        return f"as planned: {wish.assignment.encoding}"
    return wish if isinstance(wish, str) else ""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A Sink of a tensor's quantized rows, which go on as what they stand for, in the resident type."""

    assignment: Assignment
    resident: QuantFormat
    sink: Sink

    def write(self, data: memoryview, offset: int) -> None:
        cols, quantized = self.assignment.tensor.cols, self.assignment.format
        row_bytes = quantized.spec.row_bytes(cols)
        rows = quantized.decode(np.frombuffer(data, np.uint8).reshape(-1, row_bytes), cols)
        encoded = self.resident.encode(rows)
        self.sink.write(encoded.data, offset // row_bytes * self.resident.spec.row_bytes(cols))


@dataclass(frozen=True, slots=True)
class _Shaking:
    """A Sink that shakes what goes through it, each part in the same way whichever thread brings it."""

    sink: Sink
    name: str
    type: str

    def write(self, data: memoryview, offset: int) -> None:
        rng = np.random.default_rng([*self.name.encode(), offset])
        self.sink.write(shaken(np.frombuffer(data, np.uint8), self.type, rng).data, offset)


class _Changed:
    """A Sink for a tensor's own rows as float32: a Change makes others of them, which go on in the resident type."""

    def __init__(self, *, change: Change, tensor: TensorInfo, resident: QuantFormat, sink: Sink) -> None:
        self.tensor = tensor
        self._change, self._resident, self._sink = change, resident, sink
        self._digests: dict[int, bytes] = {}

    @property
    def digest(self) -> str:
        """Of all rows that were given; the same whichever thread made which of them."""
        return xxhash.xxh3_128_hexdigest(b"".join(self._digests[start] for start in sorted(self._digests)))

    def write(self, data: memoryview, offset: int) -> None:
        cols = self.tensor.cols
        rows = np.frombuffer(data, np.float32).reshape(-1, cols)
        rows.flags.writeable = False
        start = offset // rows.itemsize // cols
        made = self._change(rows, start)
        if not (isinstance(made, np.ndarray) and made.dtype == np.float32 and made.shape == rows.shape):
            given = f"{made.dtype} {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
            what = (
                f"{self.tensor.name}, rows from {start}: other weights are {given}, not float32 {rows.shape}"
            )
            raise SensitivityError(what, "this is a bug of the analysis: tell its author")
        self._digests[start] = xxhash.xxh3_128_digest(np.ascontiguousarray(made).data)
        try:
            encoded = self._resident.encode(made)
        except NonFiniteError as error:
            raise NonFiniteError(f"{self.tensor.name}, rows from {start}: other weights: {error}") from error
        self._sink.write(encoded.data, start * self._resident.spec.row_bytes(cols))


def _error(values: NDArray[np.float64], block: NDArray[np.int64]) -> float:
    """Standard error of the mean, blocks being drawn; of a single block, positions are."""
    block = np.unique(block, return_inverse=True)[1]
    if block[-1] == 0:
        block = np.arange(len(values))
    if len(values) < 2:
        return 0.0
    rest = np.bincount(block, weights=values - values.mean())
    return float(np.sqrt(rest @ rest * len(rest) / (len(rest) - 1)) / len(values))
