"""Units cover a tensor exactly once, in order, and cross nothing that they must not."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.output.row_units import Unit, parts, split
from quantrecipe.tensor import TensorInfo


@given(
    experts=st.integers(1, 5),
    heads=st.integers(1, 6),
    rows_per_head=st.sampled_from([1, 2, 8]),
    blocks=st.integers(1, 4),
    chunk=st.integers(1, 3000),
)
def test_units_cover_the_rows(experts: int, heads: int, rows_per_head: int, blocks: int, chunk: int) -> None:
    rows, cols = heads * rows_per_head, 32 * blocks
    tensor = TensorInfo.from_name("blk.0.x_exps.weight", (experts, rows, cols), "F32")
    units = list(split(tensor, rows_per_head, chunk))
    assert [u.start for u in units] == [0, *(u.stop for u in units[:-1])]
    assert units[-1].stop == experts * rows
    assert all(u.start // rows == (u.stop - 1) // rows == u.expert for u in units)
    assert all(u.start % rows_per_head == u.stop % rows_per_head == 0 for u in units)
    assert all(u.rows * cols <= max(chunk, rows_per_head * cols) for u in units)


def test_a_vector_is_one_row() -> None:
    tensor = TensorInfo.from_name("output_norm.weight", (4096,), "F32")
    (unit,) = split(tensor)
    assert (unit.rows, unit.expert) == (1, 0)


@given(
    start=st.integers(0, 5),
    groups=st.integers(1, 9),
    group=st.sampled_from([1, 2, 8]),
    weights=st.integers(1, 3000),
)
def test_parts_cover_a_unit(start: int, groups: int, group: int, weights: int) -> None:
    tensor = TensorInfo.from_name("blk.0.x_exps.weight", (4, 200, 64), "F32")
    unit = Unit(tensor=tensor, expert=2, start=400 + start, stop=400 + start + groups * group)
    found = list(parts(unit, group, weights))
    assert [p.start for p in found] == [unit.start, *(p.stop for p in found[:-1])]
    assert found[-1].stop == unit.stop
    assert all((p.rows % group, p.expert, p.tensor) == (0, 2, tensor) for p in found)
    assert all(p.rows * 64 <= max(weights, group * 64) for p in found)


@given(
    experts=st.integers(1, 5),
    rows=st.integers(1, 40),
    chunk=st.integers(1, 300),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
def test_units_of_some_rows_cover_these(experts: int, rows: int, chunk: int, cuts: list[int]) -> None:
    tensor = TensorInfo.from_name("blk.0.x_exps.weight", (experts, rows, 32), "F32")
    ends = sorted({0, experts * rows, *(cut for cut in cuts if cut < experts * rows)})
    for begin, end in pairwise(ends):
        units = list(split(tensor, 1, chunk, rows=(begin, end)))
        assert [begin, *(u.stop for u in units)] == [*(u.start for u in units), end]
        assert all(u.start // rows == (u.stop - 1) // rows == u.expert for u in units)
        assert all(u.rows * 32 <= max(chunk, 32) for u in units)
