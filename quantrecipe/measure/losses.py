"""measure_tensor: what one tensor loses in each type. Runs in any thread; memory doesn't grow with the tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quantrecipe.api import QuantFormat, TensorAnalysis
from quantrecipe.errors import NonFiniteError
from quantrecipe.importance.matrix import Importance
from quantrecipe.measure.buffers import Buffers
from quantrecipe.measure.encoded import Encoding
from quantrecipe.measure.known_results import Known
from quantrecipe.measure.sample import Moments, Sample, all_rows, draw
from quantrecipe.measure.survey import survey
from quantrecipe.model.source.reading import Reading, read_places
from quantrecipe.model.source.source import TensorSource
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.transform import to_floats
from quantrecipe.sensitivity.sensitivity import Loss, TensorSensitivity, rounded
from quantrecipe.tensor import TensorInfo

__all__ = ["Job", "measure_tensor"]

_CHUNK = 1 << 18
"""Weights that are measured together: 1 MiB as float32, so that rows and what types make of them stay in the cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is to be measured of one tensor.

    formats:    that it accepts, at least one
    encoding:   the encoder that makes the bytes, if one does
    importance: the matrix, if there is one; whether it covers the tensor is asked here
    sample:     weights to take; None for every row
    """

    tensor: TensorInfo
    stored: TensorSource
    source: QuantFormat
    formats: tuple[QuantFormat, ...]
    analysis: TensorAnalysis
    importance: Importance | None
    sample: int | None
    encoding: Encoding | None = None

    @property
    def effort(self) -> int:
        """Weights to read once, and weights to encode."""
        size = self.tensor.size
        # Reading and hashing a weight takes next to nothing beside encoding it.
        return size // 16 + len(self.formats) * (size if self.sample is None else min(size, self.sample))


def measure_tensor(
    job: Job, reader: TensorReader, buffers: Buffers, known: Known, advance: Callable[[int], None]
) -> TensorSensitivity:
    """Read the tensor, and measure what isn't known yet. `advance` hears parts of `Job.effort`; it may raise."""
    tensor = job.tensor
    importance, weights, unseen, digest = _importance(job)
    found = survey(tensor, job.stored, job.source, reader, buffers, lambda done: advance(done // 16))
    old = known(found.digest, tensor.size, digest)
    losses = (
        {}
        if old is None
        else {
            fmt.spec.name: old.losses[fmt.spec.name]
            for fmt in job.formats
            if fmt.spec.name in old.losses and old.losses[fmt.spec.name].version == fmt.spec.version
        }
    )
    todo = [fmt for fmt in job.formats if fmt.spec.name not in losses]
    base = TensorSensitivity(
        name=tensor.name,
        digest=found.digest,
        weights=tensor.size,
        losses=losses,
        alpha=0.0,
        importance=digest,
        unseen=unseen,
    )
    if old is not None and not todo:
        return replace(base, rows=old.rows, experts=old.experts, expert_type=old.expert_type)
    if job.sample is None:
        sample = all_rows(len(found.energy))
    else:
        sample = draw(found, weights=job.sample, cols=tensor.cols, experts=tensor.experts)
    per_expert = _reference(todo) if tensor.experts > 1 and (old is None or not old.experts) else None
    encoded = None if job.encoding is None else job.encoding.of(tensor)
    measured = _Measured(todo, sample, tensor.experts, per_expert)
    for expert, part, rows in _pieces(job, sample, reader, buffers):
        vector = None if importance is None else importance[expert]
        for fmt in todo:
            by_outputs = None if encoded is None else encoded.losses(expert, rows, fmt, vector)
            lost, whole = _losses(job, fmt, rows, vector) if by_outputs is None else by_outputs
            measured.add(fmt, expert, sample.stratum[part], lost, whole, weights[expert])
            advance(rows.size)
    losses = losses | measured.losses(tensor)
    order = [fmt.spec.name for fmt in job.formats]
    experts, expert_type = measured.experts(), "" if per_expert is None else per_expert.spec.name
    if old is not None and old.experts:
        experts, expert_type = old.experts, old.expert_type
    return replace(
        base,
        losses={name: losses[name] for name in order},
        rows=len(sample.rows),
        experts=experts,
        expert_type=expert_type,
    )


class _Measured:
    """Sums that are being added up: of each type, and of each expert in one of them."""

    def __init__(
        self, formats: Sequence[QuantFormat], sample: Sample, experts: int, per_expert: QuantFormat | None
    ) -> None:
        self._formats = formats
        self._moments = {fmt.spec.name: Moments(sample.sizes) for fmt in formats}
        self._expert_type = None if per_expert is None else per_expert.spec.name
        self._experts = np.zeros((experts, 2))

    def add(
        self,
        fmt: QuantFormat,
        expert: int,
        stratum: NDArray[np.int8],
        lost: NDArray[np.float64],
        whole: NDArray[np.float64],
        weight: float,
    ) -> None:
        if fmt.spec.name == self._expert_type:
            self._experts[expert] += lost.sum(), whole.sum()
        self._moments[fmt.spec.name].add(stratum, lost * weight, whole * weight)

    def losses(self, tensor: TensorInfo) -> dict[str, Loss]:
        found = {}
        for fmt in self._formats:
            error, standard_error = self._moments[fmt.spec.name].estimate()
            found[fmt.spec.name] = Loss(
                error=rounded(error),
                standard_error=rounded(standard_error),
                nbytes=fmt.spec.tensor_bytes(tensor.shape),
                version=fmt.spec.version,
            )
        return found

    def experts(self) -> tuple[float, ...]:
        if self._expert_type is None:
            return ()
        lost, whole = self._experts.T
        ratios = np.divide(lost, whole, out=np.zeros_like(lost), where=whole > 0)
        return tuple(rounded(float(ratio), 3) for ratio in ratios)


def _importance(job: Job) -> tuple[NDArray[np.float32] | None, NDArray[np.float64], tuple[int, ...], str]:
    """Importance (experts, cols), what each expert counts, experts that calibration never reached, and a digest.

    An expert counts as often as calibration chose it; one that was never chosen doesn't count, and is told.
    """
    tensor, matrix = job.tensor, job.importance
    even = np.ones(tensor.experts)
    values = None if matrix is None else matrix.for_tensor(tensor)
    entry = None if matrix is None else matrix.entry(tensor)
    if matrix is None or values is None or entry is None:
        return None, even, (), ""
    counts = np.array(entry.counts, float)
    if len(counts) != tensor.experts or not counts.any():
        counts = even
    return values, counts / counts.mean(), matrix.fit(tensor).unseen, entry.digest


def _pieces(
    job: Job, sample: Sample, reader: TensorReader, buffers: Buffers
) -> Iterator[tuple[int, slice, NDArray[np.float32]]]:
    """(expert, which of the sampled rows, float32 rows): no piece crosses an expert."""
    tensor, row_bytes = job.tensor, job.source.spec.row_bytes(job.tensor.cols)
    step = max(1, _CHUNK // tensor.cols)
    expert_of = sample.rows // tensor.rows
    begin = 0
    while begin < len(sample.rows):
        expert = int(expert_of[begin])
        end = min(begin + step, int(np.searchsorted(expert_of, expert, side="right")))
        rows = sample.rows[begin:end]
        raw = buffers.raw(len(rows), row_bytes)
        read_places(job.stored, rows, Reading(reader, tensor=tensor.name).passing(), raw)
        floats = buffers.floats(len(rows), tensor.cols)
        to_floats(raw, job.source, floats)
        yield expert, slice(begin, end), floats
        begin = end


def _losses(
    job: Job, fmt: QuantFormat, rows: NDArray[np.float32], importance: NDArray[np.float32] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each row; formats that interleave rows get whole groups, filled with the last row."""
    short = -len(rows) % fmt.spec.rows_per_group
    whole_groups = np.concatenate([rows, np.repeat(rows[-1:], short, axis=0)]) if short else rows
    try:
        lost, whole = job.analysis.row_losses(whole_groups, fmt, importance)
    except NonFiniteError as error:
        raise NonFiniteError(f"{job.tensor.name}: {error}") from error
    return lost[: len(rows)], whole[: len(rows)]


def _reference(formats: Sequence[QuantFormat]) -> QuantFormat:
    """The format in which experts are compared: the one nearest to Q4_K's size, of mainline's if there are any."""
    return min(
        formats, key=lambda fmt: (abs(fmt.spec.bits_per_weight - 4.5), fmt.spec.name != "Q4_K", fmt.spec.name)
    )
