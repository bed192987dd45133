"""Between a format's caller and its kernels: everything is checked here, once, so that kernels see plain arrays.

    return encode_rows(self.spec, rows, importance, out, plain=encode, weighted=encode_weighted)
    return decode_rows(self.spec, data, k, out, decode)

A kernel gets C-contiguous, aligned arrays in native byte order, as its signature (`ENCODE`, `ENCODE_WEIGHTED`,
`DECODE`, `GRID_SCALES`, `GRID_PUT`) says. Rows go to it in chunks that stay in the cache between the check for NaN and
Inf and the encoding; input that isn't laid out so (strided, byte-swapped, unaligned) is copied chunk by chunk, never as
a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.core.finite import all_finite
from quantrecipe.errors import FormatError, NonFiniteError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import ByteArray, FloatArray, FormatSpec
    from quantrecipe.core.kernel_format import GridKernels

__all__ = [
    "check_finite",
    "decode_rows",
    "encode_rows",
    "float32_from_float64",
    "grid_scales",
    "point_books",
    "point_scales",
    "store_choices",
    "store_points",
    "store_steps",
]

CHUNK = 1 << 19
"""Weights in a chunk: two megabytes of float32, which stay in a cache.

Not fewer than in a part of a unit of apply, so that a part is one chunk: each call of a kernel takes Python, which only
one thread at a time can run (docs/many-cores.md).
"""

Encoder = Callable[[Any, Any], None]
WeightedEncoder = Callable[[Any, Any, Any], None]


def encode_rows(
    spec: FormatSpec,
    rows: FloatArray,
    importance: FloatArray | None,
    out: ByteArray | None,
    *,
    plain: Encoder | None,
    weighted: WeightedEncoder | None = None,
) -> ByteArray:
    """rows float32 (n, k), importance float32 (k,) → uint8 (n, row_bytes(k)), as `QuantFormat.encode` promises.

    `plain(rows, out)` encodes without importance, None where the format needs one; `weighted(rows, importance,
    out)` with it, None where the format doesn't use it.
    """
    _check_matrix(spec, rows, np.float32, "rows")
    n, k = rows.shape
    out = _check_out(spec, out, (n, spec.row_bytes(k)), np.uint8)
    weights = None if importance is None else _check_importance(spec, importance, k)
    if n % spec.rows_per_group:
        raise FormatError(
            f"{spec.name} interleaves {spec.rows_per_group} rows; {n} rows don't divide into such groups"
        )
    if weights is None and plain is None:
        raise FormatError(f"{spec.name} can't be encoded without importance", "give an importance matrix")
    for start, chunk in _chunks(rows, k, np.dtype(np.float32), spec.rows_per_group):
        check_finite(chunk, first_row=start)
        target = out[start : start + len(chunk)]
        if weights is not None and weighted is not None:
            weighted(chunk, weights, target)
        elif plain is not None:
            plain(chunk, target)
    return out


def decode_rows(
    spec: FormatSpec, data: ByteArray, k: int, out: FloatArray | None, kernel: Callable[[Any, Any], None]
) -> FloatArray:
    """data uint8 (n, row_bytes(k)) → float32 (n, k), as `QuantFormat.decode` promises. `kernel(data, rows)`."""
    _check_bytes(spec, data, k)
    n = len(data)
    out = _check_out(spec, out, (n, k), np.float32)
    if n % spec.rows_per_group:
        raise FormatError(
            f"{spec.name} interleaves {spec.rows_per_group} rows; {n} rows don't divide into such groups"
        )
    for start, chunk in _chunks(data, k, np.dtype(np.uint8), spec.rows_per_group):
        kernel(chunk, out[start : start + len(chunk)])
    return out


def grid_scales(
    spec: FormatSpec, data: ByteArray, k: int, group: int, kernel: Callable[[Any, Any, Any], None]
) -> tuple[FloatArray, FloatArray]:
    """data uint8 (n, row_bytes(k)) → scales and offsets, as `Grid.scales` promises. `kernel(data, scales, offsets)`."""
    _check_bytes(spec, data, k)
    scales = np.empty((len(data), k // group), np.float32)
    offsets = np.empty_like(scales)
    kernel(np.require(data, np.uint8, ["C", "A"]), scales, offsets)
    return scales, offsets


def point_scales(
    spec: FormatSpec, data: ByteArray, k: int, group: int, kernel: Callable[[Any, Any], None]
) -> FloatArray:
    """The same of points, as `PointGrid.scales` promises. `kernel(data, scales)`."""
    _check_bytes(spec, data, k)
    scales = np.empty((len(data), k // group), np.float32)
    kernel(np.require(data, np.uint8, ["C", "A"]), scales)
    return scales


def point_books(
    spec: FormatSpec, data: ByteArray, k: int, group: int, kernel: Callable[[Any, Any], None]
) -> ByteArray:
    """Which book each group has, as `PointGrid.books_of` promises. `kernel(data, books)`."""
    _check_bytes(spec, data, k)
    books = np.empty((len(data), k // group), np.uint8)
    kernel(np.require(data, np.uint8, ["C", "A"]), books)
    return books


def store_points(
    spec: FormatSpec,
    data: ByteArray,
    choices: NDArray[np.uint16],
    signs: ByteArray,
    points: tuple[int, ...],
    kernel: Callable[[Any, Any, Any], None],
) -> None:
    """Points and signs → data, as `PointGrid.store` promises. points: how many, and their length."""
    _check_matrix(spec, choices, np.uint16, "choices")
    _check_matrix(spec, signs, np.uint8, "signs")
    k = choices.shape[1] * points[1]
    _check_bytes(spec, data, k)
    _check_out(spec, data, (len(choices), data.shape[1]), np.uint8)
    if signs.shape != (len(choices), k // 8):
        raise FormatError(
            f"{spec.name}: signs must have the shape {(len(choices), k // 8)}, not {signs.shape}"
        )
    largest = int(choices.max(initial=0))
    if largest >= points[0]:
        raise FormatError(f"{spec.name} has {points[0]} points to choose from, and a choice is {largest}")
    kernel(np.require(choices, np.uint16, ["C", "A"]), np.require(signs, np.uint8, ["C", "A"]), data)


def store_choices(spec: FormatSpec, data: ByteArray, choices: ByteArray, grid: GridKernels) -> None:
    """choices uint8 (n, k) → data, as `Grid.store` promises."""
    _check_matrix(spec, choices, np.uint8, "choices")
    _check_bytes(spec, data, choices.shape[1])
    _check_out(spec, data, (len(choices), data.shape[1]), np.uint8)
    largest, values = int(choices.max(initial=0)), len(grid.values)
    if largest >= values:
        raise FormatError(f"{spec.name} has {values} values to choose from, and a choice is {largest}")
    if grid.fours:
        odd = np.array(grid.odd)[choices].reshape(len(choices), -1, grid.group)[..., np.array(grid.fours)]
        if (uneven := np.argwhere(odd.sum(axis=-1) % 2)).size:
            row, group, four = uneven[0]
            raise FormatError(
                f"{spec.name} stores an even number of odd values in each four: not so in row {row}, "
                f"group {group}, at the places {grid.fours[four]}"
            )
    grid.put(np.require(choices, np.uint8, ["C", "A"]), data)


def store_steps(
    spec: FormatSpec,
    data: ByteArray,
    integers: tuple[NDArray[np.int16], NDArray[np.int16] | None],
    bounds: tuple[tuple[int, int], tuple[int, int] | None],
    group: int,
    kernel: Callable[[Any, Any, Any], None],
) -> None:
    """Integers of scales and offsets → data, as `Grid.store_steps` promises. `kernel(steps, lows, data)`."""
    steps, lows = integers
    if (lows is None) != (bounds[1] is None):
        raise FormatError(f"{spec.name} has {'no ' if lows is not None else ''}integers for offsets")
    lows = np.zeros_like(steps) if lows is None else lows
    for array, limits, what in ((steps, bounds[0], "steps"), (lows, bounds[1] or (0, 0), "lows")):
        _check_matrix(spec, array, np.int16, what)
        least, most = int(array.min(initial=limits[0])), int(array.max(initial=limits[0]))
        if least < limits[0] or most > limits[1]:
            raise FormatError(
                f"{spec.name}: {what} go from {limits[0]} to {limits[1]}, and not to {least} or {most}"
            )
    _check_bytes(spec, data, steps.shape[1] * group)
    _check_out(spec, data, (len(steps), data.shape[1]), np.uint8)
    if lows.shape != steps.shape:
        raise FormatError(f"{spec.name}: lows must have the shape {steps.shape}, not {lows.shape}")
    kernel(np.require(steps, np.int16, ["C", "A"]), np.require(lows, np.int16, ["C", "A"]), data)


def check_finite(rows: FloatArray, *, first_row: int = 0) -> None:
    """NonFiniteError, naming row and column, if a C-contiguous float32 (n, k) holds NaN or Inf."""
    if not all_finite(rows):
        row, column = np.argwhere(~np.isfinite(rows))[0]
        raise NonFiniteError(
            f"the weight at row {first_row + row}, column {column} is {rows[row, column]}; weights must be finite"
        )


def float32_from_float64(values: NDArray[np.float64], *, out: FloatArray | None = None) -> FloatArray:
    """The nearest float32 of each float64; infinite where it is beyond float32's range."""
    out = np.empty(values.shape, np.float32) if out is None else out
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        np.copyto(out, values, casting="same_kind")
    return out


def _chunks(
    array: NDArray[Any], k: int, dtype: np.dtype[Any], group: int
) -> Iterator[tuple[int, NDArray[Any]]]:
    step = max(CHUNK // k // group, 1) * group
    for start in range(0, len(array), step):
        yield start, np.require(array[start : start + step], dtype, ["C", "A"])


def _check_matrix(spec: FormatSpec, array: NDArray[Any], dtype: type[np.generic], what: str) -> None:
    kind = np.dtype(dtype)
    if array.ndim != 2 or array.dtype.newbyteorder("=") != kind:
        raise FormatError(
            f"{spec.name}: {what} must be a matrix of {kind}, but its shape is {array.shape} and its type {array.dtype}"
        )


def _check_bytes(spec: FormatSpec, data: ByteArray, k: int) -> None:
    _check_matrix(spec, data, np.uint8, "data")
    if data.shape[1] != spec.row_bytes(k):
        raise FormatError(
            f"{spec.name} stores a row of {k} weights in {spec.row_bytes(k)} bytes, not in {data.shape[1]}"
        )


def _check_importance(spec: FormatSpec, importance: FloatArray, k: int) -> FloatArray:
    if importance.shape != (k,) or importance.dtype.newbyteorder("=") != np.float32:
        raise FormatError(
            f"{spec.name}: importance must be {k} float32, one for each column, "
            f"but its shape is {importance.shape} and its type {importance.dtype}"
        )
    weights: FloatArray = np.require(importance, np.float32, ["C", "A"])
    if not np.isfinite(weights).all():
        column = int(np.argmin(np.isfinite(weights)))
        raise NonFiniteError(f"the importance of column {column} is {weights[column]}; it must be finite")
    return weights


def _check_out(
    spec: FormatSpec, out: NDArray[Any] | None, shape: tuple[int, int], dtype: type[np.generic]
) -> Any:
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype or not (out.flags.carray and out.flags.writeable):
        raise FormatError(
            f"{spec.name}: out must be a writeable, C-contiguous {np.dtype(dtype)} array of shape {shape}, "
            f"but its shape is {out.shape} and its type {out.dtype}"
        )
    return out
