"""Numbers that change places, and stay what they are: bytes are moved, and nothing is computed.

    stack, concat       sources one after the other: the matrices of experts, the rows of q, k and v
    rows                some rows of each matrix, such as the half of gate_up_proj that is gate
    reshape             the same numbers as rows of another length, or as other matrices
    regroup             rows as a grid whose axes change places; `rope_order` is the one that rotary embeddings need
    Columns             some columns, in another order
    PadRows             rows of zeros at the end
    Transpose           rows become columns, one matrix at a time: the only one that isn't row-local

The functions make a `Stored` of what is stored where they can, so that it is read as plainly as any other tensor.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import gcd, lcm, prod

import numpy as np
from numpy.typing import NDArray

from quantrecipe.model.source.reading import Reading
from quantrecipe.model.source.source import NUMBERS, Operation, Shape, Stored, TensorSource, fail, label

__all__ = [
    "SLAB",
    "Columns",
    "Joined",
    "PadRows",
    "Regroup",
    "Reshape",
    "Rows",
    "Transpose",
    "by_matrix",
    "concat",
    "regroup",
    "reshape",
    "rope_order",
    "rows",
    "stack",
]

_Bytes = NDArray[np.uint8]

SLAB = 1 << 24
"""Bytes of a transposed matrix that are made at once: of a larger one, a matrix is read again for each slab."""

_BLOCK = 1 << 20
"""Bytes of a matrix that are read at once to be transposed."""

_GATHERED = 1 << 21
"""Bytes of rows that change places among each other and are still read in one go."""


def stack(sources: Sequence[TensorSource]) -> TensorSource:
    """Matrices (rows, cols) of one type → (n, rows, cols); vectors (n,) of one length → (n, cols)."""
    first = sources[0]
    for source in sources:
        if (source.shape, source.dtype) != (first.shape, first.dtype):
            fail(source, f"is unlike {label(first)}, which it stands beside")
    return _joined(sources, (len(sources), *first.shape))


def concat(sources: Sequence[TensorSource]) -> TensorSource:
    """The rows of matrices (·, cols) one after the other; of vectors, their numbers."""
    if len(sources[0].shape) == 1:
        columns = [reshape(source, (*source.shape, 1)) for source in sources]
        whole = concat(columns)
        return reshape(whole, whole.shape[:1])
    first = sources[0]
    for source in sources:
        if len(source.shape) != 2 or (source.cols, source.dtype) != (first.cols, first.dtype):
            fail(source, f"has rows unlike those of {label(first)}, which they are to follow")
    return _joined(sources, (sum(source.rows for source in sources), first.cols))


def _joined(sources: Sequence[TensorSource], shape: Shape) -> TensorSource:
    first, *others = sources
    same = [it for it in others if type(it) is type(first)]
    if len(same) == len(others) and (whole := first.join(same, shape)) is not None:
        return whole
    return Joined(sources=tuple(sources), becomes=shape)


def rows(source: TensorSource, start: int, stop: int, step: int = 1) -> TensorSource:
    """Rows start, start + step, … before `stop` of each matrix; of a vector, numbers."""
    if len(source.shape) == 1:
        column = rows(reshape(source, (*source.shape, 1)), start, stop, step)
        return reshape(column, column.shape[:1])
    if isinstance(source, Stored) and step == 1 and 0 <= start <= stop <= source.rows:
        return source.cut(start, stop)
    return Rows(source=source, start=start, stop=stop, step=step)


def reshape(source: TensorSource, shape: Shape) -> TensorSource:
    """The same numbers in another shape."""
    if prod(shape) != prod(source.shape):
        fail(source, f"can't have the shape {shape}")
    if shape == source.shape:
        return source
    if isinstance(source, Stored) and (source.dtype in NUMBERS or shape[-1:] == source.shape[-1:]):
        return source.reshaped(shape)
    if isinstance(source, Reshape):
        return reshape(source.source, shape)
    return Reshape(source=source, becomes=shape)


def regroup(source: TensorSource, grid: tuple[int, ...], order: tuple[int, ...]) -> TensorSource:
    """`Regroup`; of a vector, the numbers are what rows are elsewhere."""
    if len(source.shape) == 1:
        column = Regroup(source=reshape(source, (*source.shape, 1)), grid=grid, order=order)
        return reshape(column, source.shape)
    return Regroup(source=source, grid=grid, order=order)


def rope_order(source: TensorSource, heads: int) -> TensorSource:
    """The rows of q or k in llama.cpp's order: the two rows of a rotated pair side by side.

    Hugging Face keeps them half a head apart: inside each head of 2 · h rows, row r of the output is row
    (r % 2) · h + r // 2 of the source. Of a vector, which is a bias, the numbers are so arranged.
    """
    count = source.cols if len(source.shape) == 1 else source.total_rows
    if heads < 1 or count % (2 * heads):
        what = f"has rows that don't divide among {heads} heads of even length"
        fail(source, what, "check the number of heads")
    return regroup(source, (heads, 2, count // (2 * heads)), (0, 2, 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined(Operation):
    """The rows of several sources one after the other. `becomes`: the shape that they have together."""

    sources: tuple[TensorSource, ...]
    becomes: Shape

    def infer(self) -> tuple[Shape, str]:
        first = self.sources[0]
        for source in self.sources:
            if (source.cols, source.dtype) != (first.cols, first.dtype):
                fail(source, f"has rows unlike those of {label(first)}")
        if sum(source.total_rows for source in self.sources) != prod(self.becomes[:-1]):
            fail(first, f"and {len(self.sources) - 1} more don't make the shape {self.becomes}")
        return self.becomes, first.dtype

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return self.sources

    @property
    def row_bytes(self) -> int:
        return self.sources[0].row_bytes

    @property
    def together(self) -> int:
        # A run that is whole for each of them has to begin at the same place in each, too.
        each = {source.together for source in self.sources}
        counts = {source.total_rows for source in self.sources}
        return each.pop() if len(each) == len(counts) == 1 else gcd(*each, *counts)

    def stored_bytes(self, rows: int) -> int:
        return max(source.stored_bytes(rows) for source in self.sources)

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        found = [source.read(first, last, reading) for source, first, last in self.parts(start, stop)]
        return (
            found[0]
            if len(found) == 1
            else np.concatenate(found or [np.empty((0, self.row_bytes), np.uint8)])
        )

    def parts(self, start: int, stop: int) -> Iterator[tuple[TensorSource, int, int]]:
        """The sources that the rows are of, and which of their rows."""
        each = self.sources[0].total_rows
        if each * len(self.sources) == self.total_rows and self.sources[-1].total_rows == each:
            ends = range(each, self.total_rows + 1, each)  # hundreds of experts needn't be counted each time
        else:
            ends = [*accumulate(source.total_rows for source in self.sources)]  # type: ignore[assignment]  # as good
        number = bisect_right(ends, start)
        while start < stop:
            source = self.sources[number]
            begin = ends[number] - source.total_rows
            last = min(stop, ends[number])
            if start < last:
                yield source, start - begin, last - begin
            start, number = last, number + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows(Operation):
    """Rows start, start + step, … before `stop` of each matrix."""

    source: TensorSource
    start: int
    stop: int
    step: int = 1

    def infer(self) -> tuple[Shape, str]:
        shape = self.source.shape
        if len(shape) < 2 or not 0 <= self.start <= self.stop <= shape[-2] or self.step < 1:
            fail(self.source, f"has no rows {self.start} to {self.stop} in steps of {self.step}")
        return (*shape[:-2], len(self._range), shape[-1]), self.source.dtype

    @property
    def _range(self) -> range:
        return range(self.start, self.stop, self.step)

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return (self.source,)

    @property
    def row_bytes(self) -> int:
        return self.source.row_bytes

    @property
    def together(self) -> int:
        inner = self.source.together
        return inner if self.step == 1 and self.start % inner == 0 and self.rows % inner == 0 else 1

    def stored_bytes(self, rows: int) -> int:
        return self.source.stored_bytes(rows * self.step)

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        found = []
        for matrix, first, last in by_matrix(start, stop, self.rows):
            begin = matrix * self.source.rows
            # Whole strides, so that what stands between is read in order, too, and the hash needn't read again.
            low = (
                begin
                + first * self.step
                + (self.start if self.step == 1 or first or self.start >= self.step else 0)
            )
            skipped = begin + self.start + first * self.step - low
            high = begin + min(self.start + last * self.step, self.source.rows)
            found.append(self.source.read(low, high, reading)[skipped :: self.step][: last - first])
        return _one(found, self.row_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reshape(Operation):
    """The same numbers as rows of another length. `becomes`: the shape."""

    source: TensorSource
    becomes: Shape

    def infer(self) -> tuple[Shape, str]:
        if prod(self.becomes) != prod(self.source.shape):
            fail(self.source, f"can't have the shape {self.becomes}")
        if self.becomes[-1:] != self.source.shape[-1:] and self.source.dtype not in NUMBERS:
            fail(self.source, f"has blocks, so it can't have the shape {self.becomes}")
        return self.becomes, self.source.dtype

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return (self.source,)

    @property
    def row_bytes(self) -> int:
        return self.source.row_bytes * self.cols // (self.source.cols or 1)

    @property
    def together(self) -> int:
        """So many rows that they are whole rows of the source, and as many of these as it wants at once."""
        inner = self.source.cols * self.source.together
        return gcd(inner // gcd(inner, self.cols or 1), self.rows)

    def stored_bytes(self, rows: int) -> int:
        return self.source.stored_bytes(-(-rows * self.cols // (self.source.cols or 1)))

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        width, inner = self.row_bytes, self.source.row_bytes
        if not width or not inner:
            return np.empty((stop - start, width), np.uint8)
        first, last = start * width // inner, -(-stop * width // inner)
        raw = self.source.read(first, last, reading).reshape(-1)
        begin = start * width - first * inner
        return raw[begin : begin + (stop - start) * width].reshape(stop - start, width)


@dataclass(frozen=True, kw_only=True, slots=True)
class Regroup(Operation):
    """All rows, seen as a grid, with the axes of the grid in another order: np.transpose, with rows as its items.

    grid:  lengths whose product is the number of rows
    order: axis a of the outcome is axis order[a] of the grid
    becomes: the shape; None for the source's
    """

    source: TensorSource
    grid: tuple[int, ...]
    order: tuple[int, ...]
    becomes: Shape | None = None

    def infer(self) -> tuple[Shape, str]:
        shape = self.source.shape if self.becomes is None else self.becomes
        if prod(self.grid) != self.source.total_rows or sorted(self.order) != [*range(len(self.grid))]:
            fail(self.source, f"has {self.source.total_rows} rows, which don't make a grid of {self.grid}")
        if len(shape) < 2 or shape[-1] != self.source.cols or prod(shape) != prod(self.source.shape):
            fail(self.source, f"can't have the shape {shape} when its rows are regrouped")
        return shape, self.source.dtype

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return (self.source,)

    @property
    def row_bytes(self) -> int:
        return self.source.row_bytes

    @property
    def _kept(self) -> int:
        """How many axes of the grid stay in front."""
        return next((i for i, axis in enumerate(self.order) if i != axis), len(self.order))

    @property
    def group(self) -> int:
        """Rows that change places among each other, and with no others."""
        return prod(self.grid[self._kept :])

    @property
    def together(self) -> int:
        # Of large groups (the heads of a fused q, k and v) runs of rows are read one by one.
        if not self._in_one_go:
            return 1
        both = lcm(self.group, self.source.together)
        return both if self.rows % both == 0 else gcd(self.group, self.rows)

    @property
    def _in_one_go(self) -> bool:
        return self.group * self.row_bytes <= _GATHERED

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        group, kept = self.group, self._kept
        if self._in_one_go and start % group == 0 and stop % group == 0:
            raw = self.source.read(start, stop, reading)
            order = (0, *(axis - kept + 1 for axis in self.order[kept:]), len(self.grid) - kept + 1)
            grid = raw.reshape((stop - start) // (group or 1), *self.grid[kept:], self.row_bytes)
            return grid.transpose(order).reshape(raw.shape)
        found = [self.source.read(first, last, reading) for first, last in _runs(self._places(start, stop))]
        return _one(found, self.row_bytes)

    def _places(self, start: int, stop: int) -> NDArray[np.int64]:
        """Where in the source the rows are: int64 (stop - start,)."""
        lengths = [self.grid[axis] for axis in self.order]
        index = np.unravel_index(np.arange(start, stop), lengths)
        back = [index[self.order.index(axis)] for axis in range(len(self.grid))]
        return np.ravel_multi_index(back, self.grid)


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns(Operation):
    """Column c of the outcome is column index[c] of the source."""

    source: TensorSource
    index: tuple[int, ...]

    def infer(self) -> tuple[Shape, str]:
        if not self.source.shape or self.source.dtype not in NUMBERS:
            fail(self.source, "has no columns that could be taken one by one")
        if self.index and not 0 <= min(self.index) <= max(self.index) < self.source.cols:
            fail(self.source, f"has {self.source.cols} columns, not {max(self.index) + 1}")
        return (*self.source.shape[:-1], len(self.index)), self.source.dtype

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return (self.source,)

    @property
    def together(self) -> int:
        return self.source.together

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        raw = self.source.read(start, stop, reading).view(NUMBERS[self.dtype][0])
        return np.take(raw, np.array(self.index, np.intp), axis=1).view(np.uint8)


@dataclass(frozen=True, kw_only=True, slots=True)
class PadRows(Operation):
    """Each matrix with rows of zeros behind its own, up to `count` rows."""

    source: TensorSource
    count: int

    def infer(self) -> tuple[Shape, str]:
        shape = self.source.shape
        if len(shape) < 2 or self.count < shape[-2]:
            fail(self.source, f"has more than the {self.count} rows that it is to be filled up to")
        return (*shape[:-2], self.count, shape[-1]), self.source.dtype

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return (self.source,)

    @property
    def row_bytes(self) -> int:
        return self.source.row_bytes

    @property
    def together(self) -> int:
        return gcd(self.source.together, self.count)

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        found = []
        own = self.source.rows
        for matrix, first, last in by_matrix(start, stop, self.count):
            low, high = matrix * own + min(first, own), matrix * own + min(last, own)
            if low < high:
                found.append(self.source.read(low, high, reading))
            if zeros := last - first - (high - low):
                found.append(np.zeros((zeros, self.row_bytes), np.uint8))
        return _one(found, self.row_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Transpose(Operation):
    """Each matrix (rows, cols) as (cols, rows).

    A row of it takes something of every row of the source. So it is made in slabs of at most SLAB bytes, or of 64
    rows, and the matrix is read once for each slab, a block at a time.
    """

    source: TensorSource

    def infer(self) -> tuple[Shape, str]:
        shape = self.source.shape
        if len(shape) < 2 or self.source.dtype not in NUMBERS:
            fail(self.source, "is no matrix of numbers, so it can't be transposed")
        return (*shape[:-2], shape[-1], shape[-2]), self.source.dtype

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return (self.source,)

    @property
    def together(self) -> int:
        fitting = SLAB // (self.row_bytes or 1)
        # A multiple of 64, so that it goes well with formats that interleave rows.
        return max(1, min(self.rows, max(64, fitting // 64 * 64)))

    @property
    def slab(self) -> int:
        """Bytes that are in memory for each run of rows, what is read for them included."""
        own = self.together * self.row_bytes + self.source.row_bytes * self._block
        return own + self.source.slab

    @property
    def _block(self) -> int:
        """Rows of the source that are read at once."""
        together = self.source.together
        fitting = max(together, _BLOCK // (self.source.row_bytes or 1) // together * together)
        return min(fitting, self.source.rows)

    def stored_bytes(self, rows: int) -> int:
        return 0  # what is read passes by, and isn't kept

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        number = NUMBERS[self.dtype][0]
        out = np.empty((stop - start, self.cols), number)
        inner = self.source.rows
        done = 0
        for matrix, first, last in by_matrix(start, stop, self.rows):
            for low in range(0, inner, self._block):
                high = min(low + self._block, inner)
                passing = reading.passing()
                raw = self.source.read(matrix * inner + low, matrix * inner + high, passing)
                out[done : done + last - first, low:high] = raw.view(number)[:, first:last].T
                reading.add(passing)
            done += last - first
        return out.view(np.uint8)


def by_matrix(start: int, stop: int, rows: int) -> Iterator[tuple[int, int, int]]:
    """(matrix, first, last): the run in pieces of one matrix each, with rows counted within it."""
    while start < stop:
        matrix, first = divmod(start, rows)
        last = min(rows, first + stop - start)
        yield matrix, first, last
        start += last - first


def _runs(places: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of places that follow each other: begin and end of each."""
    edges = np.flatnonzero(np.diff(places) != 1) + 1
    for run in np.split(places, edges):
        if run.size:
            yield int(run[0]), int(run[-1]) + 1


def _one(found: list[_Bytes], row_bytes: int) -> _Bytes:
    """Pieces as one: uint8 (rows, row_bytes), C-contiguous."""
    if not found:
        return np.empty((0, row_bytes), np.uint8)
    return np.ascontiguousarray(found[0]) if len(found) == 1 else np.concatenate(found)
