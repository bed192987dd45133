"""A format that is a spec and its kernels: which of them runs, and on what."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.api import FormatSpec
from quantrecipe.core import GridKernels, KernelFormat, Kernels
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
    assert grid is not None
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
    assert grid is not None
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
