"""What `eval` finds out about each file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantrecipe.api import FormatSpec
from quantrecipe.cli.contents import read_contents
from quantrecipe.cli.eval_progress import EvalProgress
from quantrecipe.evaluate import Evaluation, Positions, Reference, difference, score, summarise

__all__ = ["Candidate", "evaluate_files"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A file, and its figures.

    nbytes: of all its shards
    bits_per_weight: of the tensors
    all:    over all texts together
    texts:  over each, by its name
    change: relative change of the mean KL divergence from the first file, and its standard error; None for the first
    """

    path: Path
    nbytes: int
    bits_per_weight: float
    all: Evaluation
    texts: Mapping[str, Evaluation]
    change: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Plain data for machines."""
        return {
            "file": str(self.path),
            "nbytes": self.nbytes,
            "bits_per_weight": round(self.bits_per_weight, 4),
            "kld_change": None if self.change is None else self.change[0],
            "kld_change_error": None if self.change is None else self.change[1],
            "all": self.all.to_json(),
            "texts": {name: evaluation.to_json() for name, evaluation in self.texts.items()},
        }


def evaluate_files(
    files: Sequence[Path],
    reference: Reference,
    *,
    specs: Callable[[], Mapping[int, FormatSpec]],
    threads: int | None,
    gpu_layers: int | None,
    engine: Path | None,
    progress: EvalProgress,
    log: Callable[[str], None] | None,
) -> list[Candidate]:
    """Run each file over the reference's texts. Headers are looked into first, so that what is wrong shows early."""
    sizes = [_size(path, specs) for path in files]
    results: list[Candidate] = []
    first: Positions | None = None
    for path, (nbytes, bits) in zip(files, sizes, strict=True):
        positions = score(
            path,
            reference,
            threads=threads,
            gpu_layers=gpu_layers,
            engine=engine,
            progress=progress.task(path.name),
            log=log,
        )
        candidate = Candidate(
            path=path,
            nbytes=nbytes,
            bits_per_weight=bits,
            all=summarise(positions),
            texts={name: summarise(part) for name, part in reference.split(positions).items()},
            change=None if first is None else _change(positions, first),
        )
        first = positions if first is None else first
        results.append(candidate)
    return results


def _change(positions: Positions, first: Positions) -> tuple[float, float]:
    mean, error = difference(positions, first)
    before = float(first.divergence.mean())
    return (mean / before, error / abs(before)) if before else (0.0, 0.0)


def _size(path: Path, specs: Callable[[], Mapping[int, FormatSpec]]) -> tuple[int, float]:
    contents = read_contents(path, specs)
    weights = sum(line.weights for line in contents.tensors)
    tensors = sum(line.nbytes for line in contents.tensors)
    return sum(contents.files.values()), 8 * tensors / weights if weights else 0.0
