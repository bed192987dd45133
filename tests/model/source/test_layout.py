"""Numbers that change places, against NumPy on whole arrays, in runs of rows that begin and end anywhere."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.sources import in_any_runs, stored, whole

from quantrecipe.errors import ModelError
from quantrecipe.model.source import layout
from quantrecipe.model.source.layout import (
    Columns,
    Joined,
    PadRows,
    Regroup,
    Reshape,
    Rows,
    Transpose,
    concat,
    reshape,
    rope_order,
    rows,
    stack,
)
from quantrecipe.model.source.source import Stored, TensorSource

CUTS = st.lists(st.integers(0, 200), max_size=6)
SHAPES = st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple)
Values = NDArray[np.uint16]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


def numbers(shape: tuple[int, ...], first: int = 0) -> Values:
    return np.arange(first, first + int(np.prod(shape)), dtype=np.uint16).reshape(shape)


def opaque(source: TensorSource) -> TensorSource:
    """The same rows, as an operation that none of the functions can look into."""
    return Columns(source=source, index=tuple(range(source.cols)))


def agree(source: TensorSource, expected: Values, cuts: list[int]) -> None:
    assert (source.shape, source.dtype) == (expected.shape, "BF16")
    assert source.row_bytes == 2 * expected.shape[-1]
    found = in_any_runs(source, cuts)
    assert found.tobytes() == expected.tobytes()
    assert source.rows % source.together == 0 or isinstance(source, Transpose)
    assert pickle.loads(pickle.dumps(source)) == source
    assert whole(pickle.loads(pickle.dumps(source))).tobytes() == expected.tobytes()


@pytest.fixture(scope="module", params=[False, True], ids=["stored", "computed"])
def make(request: pytest.FixtureRequest, folder: Path) -> Callable[..., TensorSource]:
    """Makes a source of values: one that is stored, or one that is the outcome of an operation."""

    def made(values: Values, name: str = "a") -> TensorSource:
        source = stored(folder / name, values, "BF16", name)
        return opaque(source) if request.param else source

    return made


@given(st.integers(1, 5), SHAPES.filter(lambda it: len(it) < 4), CUTS)
def test_stack(make: Any, count: int, shape: tuple[int, ...], cuts: list[int]) -> None:
    values = [numbers(shape, 1000 * i) for i in range(count)]
    source = stack([make(it, f"e{i}") for i, it in enumerate(values)])
    agree(source, np.stack(values), cuts)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(1, 5), CUTS)
def test_concat(make: Any, heights: list[int], cols: int, cuts: list[int]) -> None:
    values = [numbers((height, cols), 1000 * i) for i, height in enumerate(heights)]
    source = concat([make(it, f"p{i}") for i, it in enumerate(values)])
    agree(source, np.concatenate(values), cuts)


def test_vectors_are_joined_number_by_number(make: Any) -> None:
    q, k = numbers((6,)), numbers((3,), 100)
    agree(concat([make(q, "q"), make(k, "k")]), np.concatenate([q, k]), [])
    agree(stack([make(q, "q"), make(q, "k")]), np.stack([q, q]), [1])


@given(SHAPES, st.data())
def test_rows(make: Any, shape: tuple[int, ...], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, shape[-2]))
    stop, step = data.draw(st.integers(start, shape[-2])), data.draw(st.integers(1, 4))
    values = numbers(shape)
    agree(rows(make(values), start, stop, step), values[..., start:stop:step, :], data.draw(CUTS))


def test_numbers_of_a_vector(make: Any) -> None:
    values = numbers((9,))
    agree(rows(make(values), 1, 8, 3), values[1:8:3], [])
    agree(rows(make(values), 2, 7), values[2:7], [])


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), CUTS)
def test_reshape(make: Any, a: int, b: int, c: int, d: int, cuts: list[int]) -> None:
    values = numbers((a, b, c * d))
    for shape in (
        (a * b * c, d),
        (a, b * c, d),
        (a * b, c * d),
        (a * b * c * d,),
        (b, a * c * d),
        (d, c, a, b),
    ):
        agree(reshape(make(values), shape), values.reshape(shape), cuts)
        agree(reshape(reshape(make(values), shape), values.shape), values, cuts)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 4), st.data())
def test_regroup(make: Any, grid: list[int], cols: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(grid))))
    values = numbers((*grid, cols))
    source = Regroup(source=make(values.reshape(-1, cols)), grid=tuple(grid), order=tuple(order))
    agree(source, values.transpose(*order, len(grid)).reshape(-1, cols), data.draw(CUTS))


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 3), CUTS)
def test_rope_order(make: Any, heads: int, half: int, cols: int, cuts: list[int]) -> None:
    values = numbers((heads * 2 * half, cols))
    expected = [head * 2 * half + (r % 2) * half + r // 2 for head in range(heads) for r in range(2 * half)]
    agree(rope_order(make(values), heads), values[expected], cuts)
    agree(rope_order(make(values[:, 0]), heads), values[expected, 0], [])


def test_rows_of_a_large_group_are_read_where_they_are(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heads of a fused q, k and v: more rows than are read in one go."""
    monkeypatch.setattr(layout, "_GATHERED", 10)
    values = numbers((4, 3, 2, 5))
    source = Regroup(source=make(values.reshape(24, 5)), grid=(4, 3, 2), order=(1, 0, 2))
    assert source.together == 1
    agree(source, values.swapaxes(0, 1).reshape(24, 5), [5, 11, 12])


@given(SHAPES, st.data())
def test_columns(make: Any, shape: tuple[int, ...], data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, shape[-1] - 1), min_size=1, max_size=9))
    values = numbers(shape)
    agree(Columns(source=make(values), index=tuple(index)), values[..., index], data.draw(CUTS))


@given(SHAPES, st.integers(0, 5), CUTS)
def test_pad_rows(make: Any, shape: tuple[int, ...], more: int, cuts: list[int]) -> None:
    values = numbers(shape)
    padding = [(0, 0)] * (len(shape) - 2) + [(0, more), (0, 0)]
    agree(PadRows(source=make(values), count=shape[-2] + more), np.pad(values, padding), cuts)


@settings(max_examples=40)
@given(SHAPES, CUTS, st.integers(1, 64), st.integers(1, 64))
def test_transpose(make: Any, shape: tuple[int, ...], cuts: list[int], slab: int, block: int) -> None:
    values = numbers(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SLAB", slab)
        patch.setattr(layout, "_BLOCK", block)
        agree(Transpose(source=make(values)), values.swapaxes(-1, -2), cuts)


def test_a_transpose_has_a_slab(folder: Path) -> None:
    """A slab holds 16 MiB or 64 rows, whatever the matrix, and stands beside a block of what is read."""
    large = Stored(name="a", shape=(8192, 16384), dtype="BF16", extents=())
    turned = Transpose(source=large)
    assert turned.together == 1024
    assert turned.together * turned.row_bytes == 1 << 24
    small = stored(folder / "small", numbers((6, 4)), "BF16")
    assert Transpose(source=small).together == 4
    assert small.slab == 0
    own = Transpose(source=small).slab
    assert own == 48 + 48
    assert turned.slab == (1 << 24) + (1 << 20)
    assert reshape(Transpose(source=small), (2, 12)).slab == own
    assert Transpose(source=opaque(Transpose(source=small))).slab > own


def test_what_is_stored_stays_stored(folder: Path) -> None:
    """So that it is read as plainly as any other tensor, and copied as bytes."""
    gate_up = stored(folder / "gate_up", numbers((3, 4, 5)), "BF16")
    gate = rows(gate_up, 0, 2)
    assert isinstance(gate, Stored)
    assert [(e.offset, e.nbytes) for e in gate.extents] == [(7, 20), (47, 20), (87, 20)]
    assert isinstance(stack([gate, gate]), Stored)
    assert isinstance(concat([reshape(gate, (6, 5)), reshape(gate, (6, 5))]), Stored)
    assert isinstance(reshape(gate, (2, 15)), Stored)
    across = rows(stack([reshape(gate, (6, 5)), reshape(gate, (6, 5))]), 1, 3)
    assert [(e.offset, e.nbytes) for e in across.extents] == [(17, 10), (47, 10), (17, 10), (47, 10)]


def test_how_many_rows_are_best_read_together(folder: Path) -> None:
    """So many that whole heads come from one read, wherever an operation puts them."""
    plain = stored(folder / "plain", numbers((12, 5)), "BF16")
    heads = rope_order(plain, 3)
    assert (plain.together, heads.together, opaque(heads).together) == (1, 4, 4)
    joined = [concat([heads, heads]), concat([heads, rope_order(plain, 6)]), concat([heads, plain])]
    assert [it.together for it in joined] == [4, 2, 1]
    assert concat([heads, rope_order(rows(plain, 0, 6), 1)]).together == 2
    cuts = ((0, 8), (4, 12), (2, 10), (0, 6), (0, 8, 2))
    assert [rows(heads, *cut).together for cut in cuts] == [4, 4, 1, 1, 1]
    assert [PadRows(source=heads, count=count).together for count in (12, 14, 15, 16)] == [4, 2, 1, 4]
    shapes = ((6, 10), (3, 20), (2, 30), (2, 6, 5))
    assert [reshape(heads, shape).together for shape in shapes] == [2, 1, 2, 2]
    assert stack([heads, heads]).together == 4


def test_the_rows_of_hundreds_of_experts_are_found_without_counting(folder: Path) -> None:
    experts = [opaque(stored(folder / f"x{i}", numbers((2, 3), 6 * i), "BF16")) for i in range(40)]
    agree(stack(experts), numbers((40, 2, 3)), [1, 17, 33])


Q8 = Stored(name="q", shape=(4, 32), dtype="Q8_0", extents=())
A = Stored(name="a", shape=(4, 6), dtype="BF16", extents=())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            lambda: stack([A, reshape(A, (6, 4))]),
            r"tensor 'a' \(BF16 \(6, 4\)\) is unlike tensor 'a' \(BF16 \(4, 6\)\)",
        ),
        (
            lambda: concat([A, reshape(A, (6, 4))]),
            r"'a' \(BF16 \(6, 4\)\) has rows unlike those of tensor 'a'",
        ),
        (lambda: rows(A, 2, 5), "has no rows 2 to 5 in steps of 1"),
        (lambda: rows(A, 0, 2, 0), "has no rows 0 to 2 in steps of 0"),
        (lambda: reshape(A, (5, 5)), r"can't have the shape \(5, 5\)"),
        (lambda: Reshape(source=A, becomes=(5, 5)), r"can't have the shape \(5, 5\)"),
        (
            lambda: reshape(Q8, (8, 16)),
            r"tensor 'q' \(Q8_0 \(4, 32\)\) has blocks, so it can't have the shape",
        ),
        (
            lambda: rope_order(A, 4),
            "has rows that don't divide among 4 heads of even length; check the number of heads",
        ),
        (lambda: rope_order(A, 0), "among 0 heads"),
        (
            lambda: Regroup(source=A, grid=(2, 3), order=(1, 0)),
            r"has 4 rows, which don't make a grid of \(2, 3\)",
        ),
        (lambda: Regroup(source=A, grid=(2, 2), order=(1, 1)), "don't make a grid"),
        (
            lambda: Regroup(source=A, grid=(2, 2), order=(1, 0), becomes=(6, 4)),
            r"can't have the shape \(6, 4\) when its rows are regrouped",
        ),
        (lambda: Columns(source=A, index=(1, 6)), "has 6 columns, not 7"),
        (lambda: Columns(source=Q8, index=(1,)), "has no columns that could be taken one by one"),
        (lambda: PadRows(source=A, count=3), "has more than the 3 rows"),
        (lambda: Transpose(source=Q8), "is no matrix of numbers"),
        (lambda: Joined(sources=(A, A), becomes=(7, 6)), r"and 1 more don't make the shape \(7, 6\)"),
        (lambda: Joined(sources=(A, Q8), becomes=(8, 6)), "has rows unlike those of"),
        (lambda: Rows(source=reshape(A, (24,)), start=0, stop=1), "has no rows 0 to 1"),
    ],
)
def test_shapes_that_do_not_fit(wrong: Callable[[], TensorSource], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        wrong()


def test_an_error_names_the_file(folder: Path) -> None:
    source = stored(folder / "model.safetensors", numbers((4, 6)), "BF16", "model.norm.weight")
    said = (
        r"model\.safetensors: tensor 'model\.norm\.weight' \(BF16 \(4, 6\)\) has 6 columns, not 10; download"
    )
    with pytest.raises(ModelError, match=said):
        Columns(source=source, index=(9,))


def test_how_much_a_run_reads(tmp_path: Path) -> None:
    """A buffer of that size is made for it, so it is no less than what lies between the first and the last of them."""
    computed = Columns(
        source=stored(tmp_path / "a", np.zeros((12, 4), np.float32), "F32"), index=(1, 0, 3, 2)
    )
    assert computed.stored_bytes(2) == 2 * 16
    assert rows(computed, 0, 12, 3).stored_bytes(2) == 3 * 2 * 16
    assert reshape(computed, (6, 8)).stored_bytes(3) == 6 * 16
    assert concat([computed, rows(computed, 0, 12, 2)]).stored_bytes(3) == 2 * 3 * 16
