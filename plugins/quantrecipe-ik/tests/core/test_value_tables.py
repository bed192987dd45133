"""The nearest of a table's values, as the reference's own comparison has it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from quantrecipe.core import kernel

from quantrecipe_ik.core.value_tables import (
    FIVE_BITS,
    FOUR_BITS,
    SIX_BITS,
    THREE_BITS,
    TWO_BITS,
    Table,
    index_near,
    value_near,
)

F32 = np.float32
TABLES = {2: TWO_BITS, 3: THREE_BITS, 4: FOUR_BITS, 5: FIVE_BITS, 6: SIX_BITS}


def numbers(values: tuple[int, ...]) -> np.ndarray:
    """Half-way points, values, integers and their neighbours, and what lies far out."""
    grid = np.arange(values[0] - 20, values[-1] + 20, 0.25, F32)
    near_zero = np.array([1e-45, 1e-9, 1e-8, 3e-8, 6e-8, 1e-7], F32)
    near_half = F32(0.5) + np.array([6e-8, 1.2e-7, 1.8e-7, 2.4e-7, 5e-7], F32)
    around = np.concatenate([np.nextafter(grid, F32(np.inf)), np.nextafter(grid, F32(-np.inf))])
    far = np.array([1e4, 1e9, 2**31 - 128], F32)
    parts = (grid, around, near_zero, -near_zero, near_half, -near_half, far, -far)
    return np.concatenate(parts).astype(F32)


def nearest(values: tuple[int, ...], x: np.ndarray) -> np.ndarray:
    """The reference's comparison with each pair of neighbours, from the lowest up."""
    index = np.zeros(x.size, int)
    for i, (low, high) in enumerate(pairwise(values)):
        index[~(x - F32(low) < F32(high) - x)] = i + 1
    return index


@pytest.mark.parametrize("bits", TABLES)
@pytest.mark.parametrize("shifted", [False, True], ids=["plain", "shifted"])
def test_the_nearest_value_and_its_index(bits: int, shifted: bool) -> None:
    table = TABLES[bits]
    values = table.shifted if shifted else table.plain
    assert len(values) == 2**bits
    x = numbers(values)
    near, index = value_near(values), index_near(table, values)
    expected = nearest(values, x)
    assert [near(v) for v in x] == [values[i] for i in expected]
    assert [index(v) for v in x] == [(i, values[i]) for i in expected]


def test_far_off_and_nan_as_on_x86() -> None:
    index = index_near(FOUR_BITS, FOUR_BITS.plain)
    assert [index(F32(x))[0] for x in (2.0**31, 1e30, np.inf, np.nan, -1e30, -np.inf)] == [0] * 6
    index = index_near(TWO_BITS, TWO_BITS.plain)
    assert [index(F32(x))[0] for x in (1e30, np.inf, np.nan, -np.inf)] == [3, 3, 2, 0]


def test_tables_are_shifted_evenly() -> None:
    for table in TABLES.values():
        assert isinstance(table, Table)
        assert len({high - low for low, high in zip(table.plain, table.shifted, strict=True)}) == 1
        assert table.values.tolist() == [*table.plain, *table.shifted]


def test_kernels_can_use_it() -> None:
    near = value_near(THREE_BITS.plain)

    @kernel
    def twice(x: F32) -> F32:
        return near(x) + near(-x)

    assert twice(F32(12)) == 13 - 10
