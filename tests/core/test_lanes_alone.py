"""Lanes alone: a lane uses its own column of the workspace, and shares with others only what nobody writes.

`lanes.py` says that groups of weights stand side by side and don't depend on each other. Here the kernels' own source
runs in plain Python, one lane after the other, each from its first step to its last, as a thread of a GPU would run it.
A workspace refuses every place that belongs to another lane. In the end there have to be the bytes of the compiled
encoder. So the loops over lanes can become threads that never wait for each other, except where lanes change their
meaning: from a group of weights to a super-block. `docs/decisions/0014-gpu.md` relies on this.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from inspect import getclosurevars
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantrecipe.core.jit import Kernel, global_names
from quantrecipe.core.k_quants.six_bit_scales import head_plain, head_weighted
from quantrecipe.core.k_quants.superblock import FOUND, SUPERBLOCK
from quantrecipe.core.lanes import LANES, WORKSPACE
from quantrecipe.core.scale_searches.make_qp_quants import TABLE
from quantrecipe.formats import ALL, iq4_nl, q4_k, q6_k

FAR = Path(__file__).parents[1] / "data" / "golden" / "far.npz"


class AllLanes(int):
    """LANES, told apart from every other 32."""


ALL_LANES = AllLanes(LANES)


class Column:
    """An array of rows of LANES numbers as one thread may use it: only the places of its own lane are there."""

    def __init__(self, numbers: np.ndarray, lane: int) -> None:
        self.numbers, self.lane, self.size = numbers, lane, numbers.size

    def __getitem__(self, place: int) -> np.float32:
        return self.numbers[self._own(place)]

    def __setitem__(self, place: int, value: np.float32) -> None:
        self.numbers[self._own(place)] = value

    def _own(self, place: int) -> int:
        assert place % LANES == self.lane, f"lane {self.lane} uses place {place}, of lane {place % LANES}"
        return place


class WrittenOnce:
    """Results that no thread reads, and each of which one thread writes, once."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers, self.written = numbers, set[int]()

    def __setitem__(self, place: int, value: np.float32) -> None:
        assert place not in self.written, f"place {place} is written twice"
        self.written.add(place)
        self.numbers[place] = value


def thread(kernel: object, lane: int) -> Callable[..., Any]:
    """The function of a kernel in plain Python, whose loops over all lanes go over this one only."""
    assert isinstance(kernel, Kernel)

    def one_lane(*bounds: int) -> Iterable[int]:
        return (lane,) if len(bounds) == 1 and isinstance(bounds[0], AllLanes) else range(*bounds)

    def bound(value: object) -> object:
        return thread(value, lane) if isinstance(value, Kernel) else value

    function = kernel.function
    names = set(global_names(function.__code__))
    scope = {name: bound(value) if name in names else value for name, value in function.__globals__.items()}
    scope |= {"range": one_lane, "LANES": ALL_LANES}
    cells = tuple(types.CellType(bound(cell.cell_contents)) for cell in function.__closure__ or ())
    return types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, cells)


def part(kernel: Any, name: str) -> Any:
    """What a kernel knows by this name."""
    found = getclosurevars(kernel.function)
    return found.nonlocals[name] if name in found.nonlocals else found.globals[name]


def room(size: int) -> np.ndarray:
    """float32 that nobody has computed yet."""
    return np.full(size, np.nan, np.float32)


def encode_q4_k(rows: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """A thread for each of 32 groups finds scale and minimum; then one for each of 4 super-blocks does the rest."""
    weighted, x, to = importance is not None, rows.reshape(-1), np.zeros((4, 144), np.uint8)
    encode = q4_k.KERNELS.encode_weighted if weighted else q4_k.KERNELS.encode
    find, pack = part(encode, "find_with_importance" if weighted else "find"), part(encode, "pack")
    workspace, table, found = room(WORKSPACE), room(TABLE), room(FOUND * 8 * LANES)
    data, results = (x, importance) if weighted else (x,), WrittenOnce(found)
    for lane in reversed(range(LANES)):
        thread(find, lane)(*data, 0, 4, Column(workspace, lane), results)
    for block in reversed(range(4)):
        mine, levels = Column(found, block), np.empty(SUPERBLOCK, np.uint8)
        if weighted:
            head, limit = thread(head_weighted, block), part(encode, "limit")
            head(mine, ALL_LANES, limit, Column(table, block), to.reshape(-1), 0, 144)
        else:
            thread(head_plain, block)(mine, block, to.reshape(-1), block * 144)
        thread(pack, block)(x, block, mine, block, levels, to.reshape(-1))
    return to


def encode_q6_k(rows: np.ndarray, _importance: None) -> np.ndarray:
    """A thread for each of 32 groups finds its scale; then a thread for each of 2 super-blocks does the rest."""
    encode, x, to, workspace = (
        q6_k.KERNELS.encode,
        rows.reshape(-1),
        np.zeros((2, 210), np.uint8),
        room(WORKSPACE),
    )
    for lane in reversed(range(LANES)):
        s = Column(workspace, lane)
        thread(part(encode, "_load"), lane)(x, 0, LANES, s)
        thread(part(encode, "_weigh"), lane)(s)
        thread(part(encode, "_search"), lane)(s)
    for block in reversed(range(2)):
        levels = np.empty(SUPERBLOCK, np.uint8)
        thread(part(encode, "_finish"), block)(x, block, workspace, 16 * block, levels, to.reshape(-1))
    return to


def encode_iq4_nl(rows: np.ndarray, _importance: None) -> np.ndarray:
    """A thread for each of 32 blocks does all."""
    encode, x, to, workspace = (
        iq4_nl.KERNELS.encode,
        rows.reshape(-1),
        np.zeros((32, 18), np.uint8),
        room(WORKSPACE),
    )
    for lane in reversed(range(LANES)):
        s = Column(workspace, lane)
        thread(part(encode, "_load"), lane)(x, 0, LANES, s)
        thread(part(encode, "_weigh_plain"), lane)(s)
        thread(part(encode, "search"), lane)(s)
        thread(part(encode, "finish"), lane)(x, lane, s, lane, to.reshape(-1))
    return to


def random_rows(*shape: int) -> np.ndarray:
    """With a group of zeros, and one of equal weights."""
    rows = np.random.default_rng(14).standard_normal(shape).astype(np.float32)
    rows[0, 32:64], rows[0, 96:128] = 0, 0.25
    return rows


def far_rows() -> np.ndarray:
    """Rows of which one needs ggml's own rounding in a group; the compiled kernel then rounds all lanes that way."""
    return np.concatenate([np.load(FAR)["x"][:2], random_rows(2, 256)])


CASES = {
    "Q4_K": (encode_q4_k, random_rows(2, 512), None),
    "Q4_K with importance": (encode_q4_k, far_rows(), np.load(FAR)["w"]),
    "Q6_K": (encode_q6_k, random_rows(1, 512), None),
    "IQ4_NL": (encode_iq4_nl, random_rows(2, 512), None),
}


@pytest.mark.parametrize("case", CASES)
def test_lanes_that_run_alone_make_the_encoder_s_bytes(case: str) -> None:
    encode, rows, importance = CASES[case]
    fmt = next(fmt for fmt in ALL if fmt.spec.name == case.split()[0])
    with np.errstate(
        all="ignore"
    ):  # numpy tells of infinities, NaNs and wrapped integers; compiled code doesn't
        alone = encode(rows, importance)
    assert np.array_equal(alone.reshape(-1), fmt.encode(rows, importance).reshape(-1))
