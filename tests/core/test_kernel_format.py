"""A format that is a spec and its kernels: which of them runs, and on what."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from quantrecipe.api import FormatSpec, Grid, PointGrid
from quantrecipe.core import GridKernels, KernelFormat, Kernels, PointKernels
from quantrecipe.errors import FormatError, NonFiniteError


def spec(name: str) -> FormatSpec:
    return FormatSpec(name=name, ggml_type=1001, block=2, block_bytes=1)


def fill(value: int):
    def encode(*arrays: np.ndarray) -> None:
        arrays[-1][:] = value

    return encode


def decode(data: np.ndarray, rows: np.ndarray) -> None:
    rows[:] = np.repeat(data, 2, axis=1)


class Both(KernelFormat):
    spec = spec("BOTH")
    kernels = Kernels(encode=fill(1), encode_weighted=fill(2), decode=decode)


class Plain(KernelFormat):
    spec = spec("PLAIN")
    kernels = Kernels(encode=fill(1), decode=decode)


class Weighted(KernelFormat):
    spec = spec("WEIGHTED")
    kernels = Kernels(encode_weighted=fill(2), decode=decode)


ROWS, IMPORTANCE = np.ones((3, 8), np.float32), np.ones(8, np.float32)


def test_importance_chooses_the_kernel() -> None:
    assert (Both().encode(ROWS) == 1).all()
    assert (Both().encode(ROWS, IMPORTANCE) == 2).all()
    assert (Plain().encode(ROWS, IMPORTANCE) == 1).all()
    assert (Weighted().encode(ROWS, IMPORTANCE) == 2).all()
    with pytest.raises(FormatError, match="WEIGHTED can't be encoded without importance"):
        Weighted().encode(ROWS)


def test_results_go_where_the_caller_says() -> None:
    data, rows = np.zeros((3, 4), np.uint8), np.zeros((3, 8), np.float32)
    assert Both().encode(ROWS, IMPORTANCE, out=data) is data
    assert Both().decode(data, 8, out=rows) is rows
    assert (data == 2).all()
    assert (rows == 2).all()


def test_what_a_kernel_gets_was_checked() -> None:
    with pytest.raises(NonFiniteError, match="row 1, column 2"):
        Both().encode(np.where(np.arange(24).reshape(3, 8) == 10, np.nan, ROWS).astype(np.float32))
    with pytest.raises(FormatError, match="in 4 bytes, not in 5"):
        Both().decode(np.zeros((3, 5), np.uint8), 8)


def take_scales(data: np.ndarray, scales: np.ndarray, offsets: np.ndarray) -> None:
    scales[:], offsets[:] = data, 7


def put(choices: np.ndarray, data: np.ndarray) -> None:
    data[:] = choices[:, ::2]


class WithGrid(KernelFormat):
    spec = spec("GRID")
    kernels = Kernels(
        encode=fill(1), decode=decode, grid=GridKernels(values=(0, 5), group=2, scales=take_scales, put=put)
    )


def test_a_grid_is_there_where_its_kernels_are() -> None:
    assert Both().grid is None
    grid = WithGrid().grid
    assert isinstance(grid, Grid)
    assert (grid.values, grid.group) == ((0, 5), 2)
    data = WithGrid().encode(ROWS)
    scales, offsets = grid.scales(data, 8)
    assert (scales.shape, scales.dtype) == ((3, 4), np.float32)
    assert ((scales == 1) & (offsets == 7)).all()
    choices = np.tile(np.array([0, 0, 1, 1], np.uint8), (3, 2))
    grid.store(data, choices[:, ::1])
    assert (data == [0, 1, 0, 1]).all()


def test_what_a_grid_s_kernels_get_was_checked() -> None:
    grid = WithGrid().grid
    assert isinstance(grid, Grid)
    data = WithGrid().encode(ROWS)
    with pytest.raises(FormatError, match="in 4 bytes, not in 5"):
        grid.scales(np.zeros((3, 5), np.uint8), 8)
    with pytest.raises(FormatError, match="GRID has 2 values to choose from, and a choice is 2"):
        grid.store(data, np.full((3, 8), 2, np.uint8))
    with pytest.raises(FormatError, match="choices must be a matrix of uint8"):
        grid.store(data, np.zeros((3, 8), np.int16))
    with pytest.raises(FormatError, match=r"of shape \(2, 4\)"):
        grid.store(data, np.zeros((2, 8), np.uint8))
    with pytest.raises(FormatError, match="writeable, C-contiguous"):
        grid.store(np.zeros((3, 8), np.uint8)[:, ::2], np.zeros((3, 8), np.uint8))
    assert (data == 1).all()


def take_point_scales(data: np.ndarray, scales: np.ndarray) -> None:
    scales[:] = data[:, :1]


def put_points(choices: np.ndarray, signs: np.ndarray, data: np.ndarray) -> None:
    data[:, 0], data[:, 1] = choices[:, 0], signs[:, 0]


class WithPoints(KernelFormat):
    spec = spec("POINTS")
    kernels = Kernels(
        encode=fill(1),
        decode=decode,
        grid=PointKernels(
            points=lambda: np.ones((3, 4), np.float32),
            group=8,
            even=True,
            scales=take_point_scales,
            put=put_points,
        ),
    )


def test_a_grid_of_points_is_there_where_its_kernels_are() -> None:
    grid = WithPoints().grid
    assert isinstance(grid, PointGrid)
    assert (grid.points.shape, grid.group, grid.even) == ((3, 4), 8, True)
    data = WithPoints().encode(ROWS)
    assert grid.scales(data, 8).tolist() == [[1], [1], [1]]
    grid.store(data, np.full((3, 2), 2, np.uint16), np.full((3, 1), 5, np.uint8))
    assert (data == [2, 5, 1, 1]).all()


def test_what_the_kernels_of_points_get_was_checked() -> None:
    grid = WithPoints().grid
    assert isinstance(grid, PointGrid)
    data, choices, signs = WithPoints().encode(ROWS), np.zeros((3, 2), np.uint16), np.zeros((3, 1), np.uint8)
    with pytest.raises(FormatError, match="POINTS has 3 points to choose from, and a choice is 3"):
        grid.store(data, choices + np.uint16(3), signs)
    with pytest.raises(FormatError, match=r"signs must have the shape \(3, 1\), not \(3, 2\)"):
        grid.store(data, choices, np.zeros((3, 2), np.uint8))
    with pytest.raises(FormatError, match="choices must be a matrix of uint16"):
        grid.store(data, choices.astype(np.uint8), signs)
    with pytest.raises(FormatError, match="in 4 bytes, not in 5"):
        grid.scales(np.zeros((3, 5), np.uint8), 8)
    assert (data == 1).all()


class WithFours(WithGrid):
    kernels = Kernels(
        encode=fill(1),
        decode=decode,
        grid=replace(
            cast(GridKernels, WithGrid.kernels.grid),
            group=8,
            fours=((0, 4, 1, 5), (2, 6, 3, 7)),
            odd=(False, True),
        ),
    )


def test_fours_with_an_odd_number_of_odd_values_are_refused() -> None:
    grid = WithFours().grid
    assert isinstance(grid, Grid)
    assert (grid.fours, grid.odd) == (((0, 4, 1, 5), (2, 6, 3, 7)), (False, True))
    data, choices = WithFours().encode(ROWS), np.zeros((3, 8), np.uint8)
    choices[1, [2, 4]] = 1
    with pytest.raises(FormatError, match=r"not so in row 1, group 0, at the places \(0, 4, 1, 5\)"):
        grid.store(data, choices)
    assert (data == 1).all()
    choices[1, [4, 6]] = 0, 1
    grid.store(data, choices)
    assert data.tolist() == [[0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]


def take_books(data: np.ndarray, books: np.ndarray) -> None:
    books[:] = data[:, 3:] - 1


class WithBooks(WithPoints):
    kernels = Kernels(
        encode=fill(1),
        decode=decode,
        grid=replace(
            cast(PointKernels, WithPoints.kernels.grid),
            points=lambda: np.ones((6, 4), np.float32),
            books=2,
            books_of=take_books,
        ),
    )


def test_choices_count_within_a_book() -> None:
    grid = WithBooks().grid
    assert isinstance(grid, PointGrid)
    data, signs = WithBooks().encode(ROWS), np.zeros((3, 1), np.uint8)
    books = grid.books_of(data, 8)
    assert books is not None
    assert (books.tolist(), books.dtype, grid.books) == ([[0], [0], [0]], np.uint8, 2)
    with pytest.raises(FormatError, match="POINTS has 3 points to choose from, and a choice is 3"):
        grid.store(data, np.full((3, 2), 3, np.uint16), signs)
    with pytest.raises(FormatError, match="in 4 bytes, not in 5"):
        grid.books_of(np.zeros((3, 5), np.uint8), 8)
    assert WithPoints().grid.books_of(data, 8) is None  # type: ignore[union-attr]  # it has a grid of points
