"""cut: a plan's work as units that can be done anywhere, sized by the bytes that they read and write.

    whole tensors            small ones together, in the order in which they lie in the model's files
    rows of a large tensor   whole experts, or a part of one; never less than what belongs together
    the hash of its source   the file records it over all of a tensor, so who makes a part of the rows can't know it

A tensor's factors (NVFP4) depend on a whole matrix, and what an encoder prepares does, too. Such tensors are only cut
between experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm

from quantrecipe.model.source.source import NUMBERS
from quantrecipe.output.row_units import split
from quantrecipe.plan.plan import Assignment, Plan

__all__ = ["RowRange", "WorkUnit", "cut", "unit_bytes"]

LEAST = 64 << 20
"""Bytes of a unit. To take one, to sync its piece and to give it its name costs some 20 ms on a shared file system, and
64 MB take a core about half a second."""

MOST = 2 << 30
"""Bytes of a unit that is in memory, where workers return what they make."""

EACH = 16
"""Small units for each worker. Those who end first wait for the others for half a unit on average: 3 %."""

_LARGE = 4
"""A tensor of more such units is cut: a quarter of what a worker does. To cut it costs reading its source once more,
for the hash. Not to cut it costs little, since each worker begins with its largest units."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowRange:
    """Rows of a tensor, counted over all experts, with the factors of their experts.

    whole: these are all rows
    """

    tensor: str
    start: int
    stop: int
    whole: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkUnit:
    """What one worker does at a time.

    number: counted from 0
    ranges: what is made
    hashed: tensors whose source is hashed, since others make parts of their rows
    nbytes: that are read and written, about
    made_bytes: of those, what is written, about
    size:   weights that are made
    """

    number: int
    ranges: tuple[RowRange, ...] = ()
    hashed: tuple[str, ...] = ()
    nbytes: int = 0
    made_bytes: int = 0
    size: int = 0

    @property
    def what(self) -> str:
        """For people: the first tensor, and how many others there are."""
        names = [it.tensor for it in self.ranges] or list(self.hashed)
        rows = "" if not self.ranges or self.ranges[0].whole else f", rows from {self.ranges[0].start}"
        return f"{names[0]}{rows}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def unit_bytes(plan: Plan, workers: int) -> int:
    """How many bytes a small unit is to have for so many workers."""
    total = sum(_stored(plan, a) + a.nbytes for a in plan.assignments)
    return max(LEAST, total // (EACH * workers))


def cut(plan: Plan, nbytes: int, most: int | None = None) -> tuple[WorkUnit, ...]:
    """All units of a plan, each of about so many bytes. The same for the same plan, wherever it is asked.

    most: that a unit may have, as far as its tensor can be cut; None: four times as many
    """
    nbytes = nbytes if most is None else min(nbytes, most)
    most = _LARGE * nbytes if most is None else most
    found: list[WorkUnit] = []
    group: list[RowRange] = []
    beside = _companions(plan)
    gathered = written = weights = 0

    def close() -> None:
        nonlocal gathered, written, weights
        if group:
            found.append(
                WorkUnit(
                    number=len(found),
                    ranges=tuple(group),
                    nbytes=gathered,
                    made_bytes=written,
                    size=weights,
                )
            )
            group.clear()
        gathered = written = weights = 0

    for a in sorted((it for it in plan.assignments if it.owner is None), key=lambda it: _place(plan, it)):
        stored = _stored(plan, a)
        becomes = a.nbytes + sum(it.nbytes for it in beside.get(a.tensor.name, ()))
        cost = stored + becomes
        pieces = list(_pieces(plan, a, nbytes if cost > most else cost, cost, a.tensor.name in beside))
        if len(pieces) > 1:
            rows = a.tensor.rows * a.tensor.experts
            for it in pieces:
                share = it.stop - it.start
                found.append(
                    WorkUnit(
                        number=len(found),
                        ranges=(it,),
                        nbytes=cost * share // rows,
                        made_bytes=becomes * share // rows,
                        size=share * a.tensor.cols,
                    )
                )
            found.append(WorkUnit(number=len(found), hashed=(a.tensor.name,), nbytes=stored))
            continue
        if gathered + cost > nbytes:
            close()
        group += pieces
        gathered, written, weights = gathered + cost, written + becomes, weights + a.tensor.size
    close()
    return tuple(found)


def _companions(plan: Plan) -> dict[str, list[Assignment]]:
    found: dict[str, list[Assignment]] = {}
    for a in plan.assignments:
        if a.owner is not None:
            found.setdefault(a.owner, []).append(a)
    return found


def _stored(plan: Plan, a: Assignment) -> int:
    """Bytes that are read for a tensor; of a companion none, since its owner is."""
    if a.owner is not None:
        return 0
    source = plan.model.sources.get(a.tensor.name)
    if source is None:  # of a model without weights, which is planned with
        return a.tensor.size * NUMBERS[a.tensor.dtype][1] if a.tensor.dtype in NUMBERS else a.nbytes
    return sum(extent.nbytes for extent in source.extents)


def _place(plan: Plan, a: Assignment) -> tuple[str, int, str]:
    """Where in the model's files a tensor begins, so that who does one unit after the other reads on."""
    source = plan.model.sources.get(a.tensor.name)
    extents = () if source is None else source.extents
    first = (str(extents[0].path), extents[0].offset) if extents else ("", 0)
    return (*first, a.tensor.name)


def _pieces(plan: Plan, a: Assignment, nbytes: int, cost: int, factors: bool) -> Iterator[RowRange]:
    """The rows of a tensor, in parts of about so many bytes where it has many more."""
    tensor, rows = a.tensor, a.tensor.rows * a.tensor.experts
    if cost <= nbytes or not tensor.size:
        yield RowRange(tensor=tensor.name, start=0, stop=rows if tensor.size else 0)
        return
    wanted = max(1, nbytes * rows // cost)
    if wanted >= tensor.rows or factors or a.inputs:
        step = max(1, wanted // tensor.rows) * tensor.rows
        ends = [(start, min(rows, start + step)) for start in range(0, rows, step)]
    else:
        source = plan.model.sources.get(tensor.name)
        together = lcm(1 if source is None else source.together, a.format.spec.rows_per_group)
        ends = [(it.start, it.stop) for it in split(tensor, together, wanted * tensor.cols)]
    for start, stop in ends:
        yield RowRange(tensor=tensor.name, start=start, stop=stop, whole=len(ends) == 1)
