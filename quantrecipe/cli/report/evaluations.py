"""Evaluations: what `eval --json` printed, read again, and held against the model that a report is about.

A file of evaluations says how large each file is and how many bits its weights have, and so how many weights there are.
A model with other weights is another one. The subject's own evaluation is the one of a file of just its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantrecipe.cli.eval.candidates import Candidate
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import Evaluation, Intervals, Noise, Pair
from quantrecipe.evaluate.reference import ScoredText
from quantrecipe.plan.review.sides import Side
from quantrecipe.typed import NotNegative, Positive, json_object, typed

__all__ = ["Evaluated", "read_evaluation", "require_same_model"]

_LARGEST = 64 << 20
"""Bytes of such a file, at most: with the answers to thousands of prompts it has a few million."""
_TOLERANCE = 0.02
"""By which the weights that size and bits come to may differ from the model's, as a share of them."""
_HEADER = 8 << 20
"""Bytes by which headers of two files of one model may differ: vocabularies and hashes that one of them lacks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reference:
    model: str
    n_ctx: Positive
    texts: tuple[ScoredText, ...]
    positions: Positive
    noise: Noise | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    name: str
    nbytes: Positive
    bits_per_weight: NotNegative
    all: Evaluation
    texts: Mapping[str, Evaluation]
    intervals: Intervals
    file: str | None = None
    recipe: str | None = None
    imatrix: str | None = None
    beside: Pair | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Document:
    reference: _Reference
    files: tuple[_File, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """What one run of `eval` found.

    path:      of the file that says so
    reference: name of the file that the others were compared with
    texts:     names of the texts, with their chunks
    noise:     of the reference beside itself; None where it wasn't measured
    """

    path: Path
    reference: str
    n_ctx: int
    texts: tuple[ScoredText, ...]
    positions: int
    noise: Noise | None
    candidates: tuple[Candidate, ...]

    def of(self, side: Side) -> Candidate | None:
        """The evaluation of this very side: of a file of its size, and bits; None where there is none."""
        fitting = [
            it
            for it in self.candidates
            if it.nbytes == side.nbytes and abs(it.bits_per_weight - side.bits_per_weight) < 1e-3
        ]
        named = [it for it in fitting if Path(it.name).name == Path(side.label).name]
        return next(iter(named or fitting), None)


def read_evaluation(path: Path) -> Evaluated:
    """Read what `eval --json` printed. EvaluationError where it is something else."""
    remedy = "give what `quantrecipe eval … --json > FILE` wrote"
    try:
        if path.stat().st_size > _LARGEST:
            raise EvaluationError(f"is larger than any evaluation ({_LARGEST >> 20} MiB)", remedy, file=path)
        document = typed(json_object(path.read_bytes()), _Document)
    except OSError as error:
        raise EvaluationError(f"can't be read: {error.strerror or error}", remedy, file=path) from error
    except ValueError as error:
        raise EvaluationError(f"is no evaluation: {error}", remedy, file=path) from error
    said = document.reference
    if not document.files:
        raise EvaluationError("has the reference alone, and no file", remedy, file=path)
    if len({_shape(it) for it in document.files}) > 1 or not document.files[0].texts:
        raise EvaluationError("is no evaluation: its files aren't of the same texts", remedy, file=path)
    return Evaluated(
        path=path,
        reference=said.model,
        n_ctx=said.n_ctx,
        texts=said.texts,
        positions=said.positions,
        noise=said.noise,
        candidates=tuple(map(_candidate, document.files)),
    )


def _shape(it: _File) -> tuple[object, ...]:
    """What the files of one run have in common: the texts, and the parts of a chunk."""
    places = tuple((bucket.first, bucket.last) for bucket in it.intervals.by_context)
    return tuple(sorted(it.texts)), places


def _candidate(it: _File) -> Candidate:
    return Candidate(
        name=it.name,
        path=None if it.file is None else Path(it.file),
        recipe=it.recipe,
        imatrix=None if it.imatrix is None else Path(it.imatrix),
        nbytes=it.nbytes,
        bits_per_weight=it.bits_per_weight,
        all=it.all,
        texts=dict(it.texts),
        intervals=it.intervals,
        beside=it.beside,
    )


def require_same_model(found: Sequence[Evaluated], side: Side) -> None:
    """EvaluationError for evaluations of files that have more or fewer weights than this side.

    Files are as large as their data and a header, which isn't told apart: it counts as large as the side's own, give or
    take what a vocabulary and hashes have.
    """
    header = side.nbytes - sum(fate.nbytes for fate in side.tensors.values())
    for evaluated in found:
        for it in evaluated.candidates:
            data = side.weights * it.bits_per_weight / 8
            if abs(it.nbytes - header - data) > _TOLERANCE * data + min(_HEADER, it.nbytes / 2):
                weights = 8 * it.nbytes / max(it.bits_per_weight, 1e-9)
                raise EvaluationError(
                    f"evaluates {it.name}, which has some {weights:.3g} weights, and this model has "
                    f"{side.weights:.3g}",
                    "give evaluations of files of this model",
                    file=evaluated.path,
                )
