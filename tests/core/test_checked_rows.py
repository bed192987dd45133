"""What lies between a caller and a kernel: chunks, groups of rows, float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from quantrecipe.core.checked_rows import CHUNK, check_finite, decode_rows, encode_rows, float32_from_float64
from quantrecipe.errors import FormatError, NonFiniteError


@dataclass(frozen=True)
class Spec:
    name: str = "PAIRS"
    rows_per_group: int = 2

    def row_bytes(self, k: int) -> int:
        return k


class Recorder:
    """A kernel that keeps the shapes it was called with."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, *arrays: np.ndarray) -> None:
        assert all(
            array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative for array in arrays
        )
        self.shapes.append(arrays[0].shape)


def test_rows_come_in_chunks_of_whole_groups() -> None:
    kernel = Recorder()
    k = CHUNK // 5
    encode_rows(Spec(), np.zeros((11 * 2, k), np.float32)[:, ::-1], None, None, plain=kernel)
    assert sum(n for n, _ in kernel.shapes) == 22
    assert {n for n, _ in kernel.shapes[:-1]} == {4}


def test_a_row_longer_than_a_chunk_is_one_call() -> None:
    kernel = Recorder()
    encode_rows(Spec(rows_per_group=1), np.zeros((2, 2 * CHUNK), np.float32), None, None, plain=kernel)
    assert kernel.shapes == [(1, 2 * CHUNK)] * 2


def test_rows_that_do_not_fill_a_group_are_refused() -> None:
    with pytest.raises(FormatError, match="interleaves 2 rows"):
        encode_rows(Spec(), np.zeros((3, 8), np.float32), None, None, plain=Recorder())
    with pytest.raises(FormatError, match="interleaves 2 rows"):
        decode_rows(Spec(), np.zeros((3, 8), np.uint8), 8, None, Recorder())


def test_the_kernel_follows_the_importance() -> None:
    plain, weighted = Recorder(), Recorder()
    rows, importance = np.zeros((2, 8), np.float32), np.ones(8, np.float32)
    encode_rows(Spec(), rows, importance, None, plain=plain, weighted=weighted)
    assert (plain.shapes, weighted.shapes) == ([], [(2, 8)])
    encode_rows(Spec(), rows, importance, None, plain=plain)
    assert plain.shapes == [(2, 8)]
    with pytest.raises(FormatError, match="without importance"):
        encode_rows(Spec(), rows, None, None, plain=None, weighted=weighted)


def test_the_row_of_a_nan_counts_from_the_first_row_of_the_call() -> None:
    rows = np.zeros((22, CHUNK // 5), np.float32)
    rows[21, 3] = np.inf
    with pytest.raises(NonFiniteError, match=r"row 21, column 3 is inf"):
        encode_rows(Spec(), rows, None, None, plain=Recorder())


def test_check_finite_takes_every_finite_number() -> None:
    check_finite(np.float32([[3.4028235e38, -3.4028235e38, 1e-45, -0.0]]))
    check_finite(np.empty((0, 4), np.float32))


def test_float64_becomes_the_nearest_float32() -> None:
    values = np.array([0.1, 1e300, -1e300, 1e-300, np.nan])
    expected = np.float32([0.1, np.inf, -np.inf, 0, np.nan])
    assert np.array_equal(float32_from_float64(values), expected, equal_nan=True)
    out = np.empty(5, np.float32)
    assert float32_from_float64(values, out=out) is out
