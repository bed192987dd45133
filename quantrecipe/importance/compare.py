"""compare: what changed from one importance matrix to another, tensor by tensor.

Quantizers look for the weights that matter more than others: what counts is the shape of the importance, more
than its size. So there are three numbers, from strict to lenient:

    change      length of the difference over the length of the first: 0.1 is a tenth
    cosine      of the angle between both, whatever their sizes
    rank        Spearman's correlation: do both put the inputs in the same order?

Experts that only one of the two saw are left out, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.errors import ImportanceError, Problem, abridged
from quantrecipe.importance.matrix import Importance, ImportanceEntry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.importance.matrix import FloatArray

__all__ = ["Comparison", "TensorChange", "compare"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorChange:
    """How one tensor's importance changed; numbers are None where one of both has none, or only zeros.

    energy: sum of the second over the sum of the first
    unpaired: experts that only one of both saw
    """

    name: str
    change: float | None
    cosine: float | None
    rank: float | None
    energy: float | None
    unpaired: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two importance matrices side by side.

    changes: tensors that both have, the most changed first
    only_first, only_second: names of the others
    """

    first: Importance
    second: Importance
    changes: tuple[TensorChange, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def models_differ(self) -> bool:
        """True if both files state their model, and it isn't the same."""
        one, other = self.first.fingerprint, self.second.fingerprint
        return bool(one and other and one != other)

    def beyond(self, threshold: float) -> tuple[TensorChange, ...]:
        """Tensors whose change is larger than the threshold, or can't be told."""
        return tuple(item for item in self.changes if item.change is None or item.change > threshold)

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            "first": self.first.path,
            "second": self.second.path,
            "first_digest": self.first.digest,
            "second_digest": self.second.digest,
            "first_model": self.first.fingerprint or None,
            "second_model": self.second.fingerprint or None,
            "tensors": self.changes,
            "only_first": self.only_first,
            "only_second": self.only_second,
        }


def compare(first: Importance, second: Importance) -> Comparison:
    """ImportanceError where they belong to different models: a tensor has another size, or none is in both."""
    names = first.entries.keys() & second.entries.keys()
    if not names:
        raise ImportanceError(
            f"has no tensor in common with {first.path}", "compare matrices of one model", file=second.path
        )
    problems = [
        Problem(
            what=f"{name} has {second.entries[name].size:,} values "
            f"(expected: {first.entries[name].size:,}, as in {first.path})",
            remedy="compare matrices of one model",
            file=second.path,
        )
        for name in sorted(names)
        if first.entries[name].size != second.entries[name].size
    ]
    if problems:
        raise ImportanceError(abridged(problems))
    changes = (_change(first.entries[name], second.entries[name]) for name in names)
    return Comparison(
        first=first,
        second=second,
        changes=tuple(sorted(changes, key=_most_changed_first)),
        only_first=tuple(sorted(first.entries.keys() - names)),
        only_second=tuple(sorted(second.entries.keys() - names)),
    )


def _most_changed_first(item: TensorChange) -> tuple[bool, float, str]:
    return (item.change is not None, -(item.change or 0), item.name)


def _change(first: ImportanceEntry, second: ImportanceEntry) -> TensorChange:
    n = max(len(first.counts), len(second.counts))
    if n % len(first.counts) or n % len(second.counts) or first.size % n:
        raise ImportanceError(
            f"{first.name} has {len(second.counts)} counts (expected: {len(first.counts)}, as in {first.path})",
            "compare matrices of one model",
            file=second.path,
        )
    seen_first, seen_second = _seen(first, n), _seen(second, n)
    both = seen_first & seen_second
    values_a = first.values.reshape(n, -1)[both].reshape(-1)
    values_b = second.values.reshape(n, -1)[both].reshape(-1)
    a, b = values_a.astype(np.float64), values_b.astype(np.float64)
    length_a, length_b = _length(a), _length(b)
    difference = _length(b - a)
    return TensorChange(
        name=first.name,
        change=difference / length_a if length_a else (0.0 if a.size and not length_b else None),
        cosine=_cosine(a, b),
        rank=_cosine(_centred_ranks(values_a), _centred_ranks(values_b)),
        energy=float(b.sum() / a.sum()) if length_a else None,
        unpaired=int((seen_first != seen_second).sum()),
    )


def _seen(entry: ImportanceEntry, n: int) -> NDArray[np.bool_]:
    """Which of `n` matrices calibration reached; a .dat file doesn't say, and shows them all."""
    seen = np.asarray([count > 0 or entry.layout == "dat" for count in entry.counts])
    return np.repeat(seen, n // seen.size)


def _length(values: NDArray[np.float64]) -> float:
    """Length of a vector, without BLAS: its threads add in an order of their own, and the last digit would change."""
    return float(np.sqrt(np.sum(values * values)))


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    lengths = _length(a) * _length(b)
    return float(np.clip(np.sum(a * b) / lengths, -1, 1)) if lengths else None


def _centred_ranks(values: FloatArray) -> NDArray[np.float64]:
    """Give each value its rank, minus the mean of all ranks. Equal values share the mean of theirs."""
    order = np.argsort(values)
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if values.size else order
    ends = np.append(starts[1:], values.size)
    shared = (starts + ends + 1) / 2 - (values.size + 1) / 2  # ranks start..end-1 count from 1
    ranks = np.empty(values.size)
    ranks[order] = np.repeat(shared, ends - starts)
    return ranks
