"""Sample: which rows of a tensor are measured, and what they say of all.

    large    a quarter of the sample, among the sixteenth of the rows with the most energy
    spiky    an eighth, among the sixteenth (of the others) whose peak stands out most from the row
    others   the rest, spread evenly over all experts and rows

Outliers, in which formats differ most, are so measured far more densely than others, and count for what they are.
In each stratum rows are drawn one from each of equal runs, at a place that the tensor's hash decides: a sample is
spread over the tensor, follows no period of it, and is the same on every machine. The estimate is the ratio of
stratified sums, and its standard error that of simple random sampling, which errs on the safe side.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quantrecipe.measure.survey import Survey

__all__ = ["FEWEST_ROWS", "Moments", "Sample", "all_rows", "draw"]

FEWEST_ROWS = 128
"""The fewest rows that are taken of a tensor, however long they are."""
FEWEST_OF_AN_EXPERT = 4
"""The fewest rows per expert on the average, so that rows that are spread evenly come to each expert more than once."""

_OUTLIERS = 1 / 16
_SHARES = (1 / 4, 1 / 8)
"""Of the sample, for the large and for the spiky rows."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """Rows, ascending, and the stratum of each; how many rows each stratum has in the tensor."""

    rows: NDArray[np.int64]
    stratum: NDArray[np.int8]
    sizes: tuple[int, ...]


@dataclass(slots=True)
class Moments:
    """Sums over sampled rows of one type, stratum by stratum: what an estimate needs, however many rows there are.

    sums: float64 (strata, 6): number of rows, lost, whole, lost², lost·whole, whole²
    """

    sizes: tuple[int, ...]
    sums: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.sums = np.zeros((len(self.sizes), 6))

    def add(self, stratum: NDArray[np.int8], lost: NDArray[np.float64], whole: NDArray[np.float64]) -> None:
        """Add what more rows have lost, and what they are."""
        for number in range(len(self.sizes)):
            here = stratum == number
            one, two = lost[here], whole[here]
            self.sums[number] += (
                len(one),
                one.sum(),
                two.sum(),
                (one * one).sum(),
                (one * two).sum(),
                (two * two).sum(),
            )

    def estimate(self) -> tuple[float, float]:
        """The estimate of D from the rows so far, and its standard error."""
        count, lost, whole, lost2, cross, whole2 = self.sums.T
        sizes = np.array(self.sizes, float)
        taken = count > 0
        scale = np.divide(sizes, count, out=np.zeros_like(sizes), where=taken)
        total = float((scale * whole).sum())
        if total <= 0:
            return float((scale * lost).sum()), 0.0
        ratio = float((scale * lost).sum()) / total
        rest2 = lost2 - 2 * ratio * cross + ratio * ratio * whole2
        rest = lost - ratio * whole
        free = np.maximum(count - 1, 1)
        variance = (
            np.maximum(rest2 - np.divide(rest * rest, count, out=np.zeros_like(rest), where=taken), 0) / free
        )
        part = np.maximum(1 - np.divide(count, sizes, out=np.ones_like(sizes), where=sizes > 0), 0)
        error = np.sqrt((sizes**2 * part * variance / np.maximum(count, 1)).sum()) / total
        return ratio, float(error)


def draw(found: Survey, *, weights: int, cols: int, experts: int) -> Sample:
    """About so many weights of a tensor whose rows have `cols`; every row where it hasn't more."""
    total = len(found.energy)
    wanted = max(FEWEST_ROWS, FEWEST_OF_AN_EXPERT * experts, -(-weights // cols))
    if wanted >= total:
        return all_rows(total)
    outliers = max(1, int(total * _OUTLIERS))
    order = np.argsort(-found.energy, kind="stable")
    large, others = np.sort(order[:outliers]), order[outliers:]
    spikes = np.divide(
        np.square(found.peak, dtype=np.float64),
        found.energy,
        out=np.zeros(total),
        where=found.energy > 0,
    )
    by_spike = others[np.argsort(-spikes[others], kind="stable")]
    spiky, plain = np.sort(by_spike[:outliers]), np.sort(by_spike[outliers:])
    numbers = [min(max(2, round(share * wanted)), outliers) for share in _SHARES]
    numbers.append(wanted - sum(numbers))
    bits = np.random.PCG64(int(found.digest, 16))
    strata = [
        _spread(rows, min(number, len(rows)), bits)
        for rows, number in zip((large, spiky, plain), numbers, strict=True)
    ]
    rows = np.concatenate(strata)
    stratum = np.repeat(np.arange(3, dtype=np.int8), [len(part) for part in strata])
    order = np.argsort(rows, kind="stable")
    return Sample(rows=rows[order], stratum=stratum[order], sizes=(len(large), len(spiky), len(plain)))


def all_rows(total: int) -> Sample:
    """The sample that is every row."""
    return Sample(rows=np.arange(total), stratum=np.zeros(total, np.int8), sizes=(total,))


def _spread(rows: NDArray[np.int64], number: int, bits: np.random.PCG64) -> NDArray[np.int64]:
    """One row from each of `number` runs of nearly equal length."""
    edges = np.arange(number + 1) * len(rows) // max(1, number)
    places = edges[:-1] + (_fractions(bits, number) * np.diff(edges)).astype(np.int64)
    return rows[places]


def _fractions(bits: np.random.PCG64, number: int) -> NDArray[np.float64]:
    """Numbers from 0 to 1. Raw bits: what NumPy makes of them may change, they themselves may not."""
    raw = np.asarray(bits.random_raw(number), np.uint64)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
