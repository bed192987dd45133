"""improve_rows: bytes of plain encoding → bytes with scales that were looked for. Rows are apart.

A panel of rows at a time, whose columns lie side by side in memory (see `losses.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from quantrecipe.api import Grid
from quantrecipe.encoders.feedback.turning import bytes_of_rows, lanes_of, rows_of
from quantrecipe.encoders.thorough.losses import choose_all, differ, weigh
from quantrecipe.encoders.thorough.search import Alone, Problem, Stepped, search_alone, search_stepped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import ByteArray, FloatArray, FormatSpec, QuantFormat

__all__ = ["improve_rows"]

PANEL = 1 << 16
"""Weights at a time: with what counts for each half a megabyte, which the second cache has room for."""
ROWS = 32
"""Rows at a time at least, which is a full vector."""


def improve_rows(rows: FloatArray, fmt: QuantFormat, importance: FloatArray | None, data: ByteArray) -> None:
    """Write blocks that lose less to data, which has the rows (n, k) as the format makes them.

    importance: float32 (k,); None: all columns count the same
    """
    n, k = rows.shape
    counts = np.ones(k, np.float32) if importance is None else np.require(importance, np.float32, ["C", "A"])
    step = max(PANEL // k // ROWS, 1) * ROWS
    for start in range(0, n, step):
        panel = np.require(rows[start : start + step], np.float32, ["C", "A"])
        with np.errstate(over="ignore", invalid="ignore"):  # of weights that go beyond float16
            _improve(panel, fmt, cast(Grid, fmt.grid), counts, data[start : start + step])


def _improve(rows: FloatArray, fmt: QuantFormat, grid: Grid, counts: FloatArray, data: ByteArray) -> None:
    spec, (n, k) = fmt.spec, rows.shape
    values, first = np.unique(np.asarray(grid.values, np.float32), return_index=True)
    even = bool((np.diff(values) == 1).all() and (values == np.rint(values)).all())
    x = lanes_of(rows)
    weights, sizes = np.empty_like(x), np.empty((k // grid.group, x.shape[1]), np.float32)
    weigh(x, counts, weights, sizes)
    problem = Problem(
        x=x, weights=weights, sizes=sizes, values=values, even=even, groups=spec.block // grid.group,
        steps=grid.steps or (0, 0), lows=grid.lows or (0, 0),
        powers=spec.floats[0].kind == "e8m0", two=len(spec.floats) == 2,
    )  # fmt: skip
    made = data.copy()
    scales, offsets = (lanes_of(it) for it in grid.scales(data, k))
    if grid.steps is None:
        alone = search_alone(problem, Alone(scales=scales, offsets=offsets))
        _store_floats(spec, (alone.scales, alone.offsets), scales, made)
    else:
        stepped = search_stepped(problem, _found(spec, problem, scales, offsets, data))
        _store_floats(spec, (stepped.d, stepped.m), stepped.d, made)
        grid.store_steps(made, _integers(stepped.steps, n), _integers(stepped.lows, n) if grid.lows else None)
    scales, offsets = (lanes_of(it) for it in grid.scales(made, k))
    choices, room = np.empty(x.shape, np.uint8), np.empty((4, x.shape[1]), np.float32)
    choose_all(
        x, scales, offsets, values, (values[:-1] + values[1:]) / np.float32(2), int(even), room, choices
    )
    grid.store(made, np.take(first.astype(np.uint8), bytes_of_rows(choices, n)))
    lost = np.empty((2, k // spec.block, x.shape[1]), np.float64)
    for it, sums in zip((made, data), lost, strict=True):
        differ(x, lanes_of(fmt.decode(it, k)), counts, sums)
    # What the format can't hold stays as it says it: others look for that, and a finite number would hide it.
    better = ((lost[0] < lost[1]) & np.isfinite(lost[1]))[:, :n].T
    np.copyto(_blocks(spec, data), _blocks(spec, made), where=better[..., None])


def _blocks(spec: FormatSpec, data: ByteArray) -> ByteArray:
    return data.reshape(len(data), -1, spec.block_bytes)


def _found(
    spec: FormatSpec, problem: Problem, scales: FloatArray, offsets: FloatArray, data: ByteArray
) -> Stepped:
    """What the format's own encoder has found."""
    floats = []
    for it in spec.floats:
        at = cast(int, it.at)
        halves = np.ascontiguousarray(_blocks(spec, data)[..., at : at + 2]).view("<f2")[..., 0]
        floats.append(lanes_of(halves.astype(np.float32)))
    d, m = floats[0], floats[1] if problem.two else np.zeros_like(floats[0])

    def integers(wanted: FloatArray, of: FloatArray) -> FloatArray:
        with np.errstate(all="ignore"):
            found = np.rint(wanted / np.repeat(of, problem.groups, axis=0))
        return np.where(np.isfinite(found), found, np.float32(0))

    return Stepped(d=d, m=m, steps=integers(scales, d), lows=integers(-offsets, m))


def _store_floats(
    spec: FormatSpec, floats: tuple[FloatArray, FloatArray], was: FloatArray, data: ByteArray
) -> None:
    """The floats of each block, float32 (blocks, lanes) → data. was: what data has in the place of the first now."""
    blocks = _blocks(spec, data)
    for stored, wanted in zip(spec.floats, floats, strict=False):
        at, of_rows = cast(int, stored.at), rows_of(np.ascontiguousarray(wanted), len(data))
        if stored.kind == "e8m0":
            # An exponent is stored, from which the format's scale is some fixed power of two away.
            moved = np.frexp(of_rows)[1] - np.frexp(rows_of(was, len(data)))[1]
            blocks[..., at] = np.clip(blocks[..., at] + moved, 0, 254)
        else:
            blocks[..., at : at + 2] = of_rows.astype("<f2")[..., None].view(np.uint8)


def _integers(numbers: FloatArray, n: int) -> NDArray[np.int16]:
    return rows_of(np.ascontiguousarray(numbers), n).astype(np.int16)
