"""read_for: which bytes of files a run of rows is made of, before any of them is read.

It says enough for what is to be ordered in advance: where an operation mixes rows, all of its operands are named.
"""

from __future__ import annotations

from collections.abc import Iterator

from quantrecipe.model.source.layout import Joined
from quantrecipe.model.source.source import Constant, Extent, Stored, TensorSource

__all__ = ["read_for"]


def read_for(source: TensorSource, start: int, stop: int) -> Iterator[Extent]:
    """The extents, or parts of them, that these rows need; the same one may come twice."""
    if isinstance(source, Constant) or start >= stop:
        return
    if start <= 0 and stop >= source.total_rows:
        yield from source.extents
    elif isinstance(source, Stored):
        yield from source.between(start * source.row_bytes, stop * source.row_bytes)
    elif isinstance(source, Joined):
        for operand, first, last in source.parts(start, stop):
            yield from read_for(operand, first, last)
    else:
        for operand in source.operands:
            yield from _matrices_for(source, operand, start, stop)


def _matrices_for(source: TensorSource, operand: TensorSource, start: int, stop: int) -> Iterator[Extent]:
    """The matrices of an operand that these rows are made of: within one, the order of rows may be another."""
    count = source.total_rows // max(1, source.rows)
    if operand.total_rows // max(1, operand.rows) != count:  # another number of matrices
        yield from operand.extents
        return
    first, last = start // source.rows, -(-stop // source.rows)
    yield from read_for(operand, first * operand.rows, last * operand.rows)
