"""What changed from one importance matrix to another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr
from support.examples import examples
from support.imatrix_files import dat_bytes, write_gguf_imatrix

from quantrecipe.errors import ImportanceError
from quantrecipe.importance.compare import TensorChange, compare
from quantrecipe.importance.read_importance import read_importance

DATA = Path(__file__).parent.parent / "data" / "imatrix"
Rows = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def change(tmp_path: Path, a: Rows, b: Rows, counts_a: list[int], counts_b: list[int]) -> TensorChange:
    paths = [
        write_gguf_imatrix(tmp_path / f"{name}.gguf", {"x.weight": (np.float32(rows), counts)})
        for name, rows, counts in (("a", a, counts_a), ("b", b, counts_b))
    ]
    first, second = map(read_importance, paths)
    return compare(first, second).changes[0]


def test_a_matrix_is_itself() -> None:
    code = read_importance(DATA / "imatrix.code.gguf")
    found = compare(code, code)
    assert all((item.change, item.energy) == (0, 1) for item in found.changes)
    assert all(item.cosine == pytest.approx(1) and item.rank == pytest.approx(1) for item in found.changes)
    assert found.beyond(0) == ()


def test_layouts_differ_by_rounding() -> None:
    found = compare(*(read_importance(DATA / f"imatrix.code.{layout}") for layout in ("gguf", "dat")))
    assert len(found.changes) == 28
    assert max(item.change or 0 for item in found.changes) < 1e-7


def test_the_most_changed_come_first() -> None:
    found = compare(*(read_importance(DATA / f"imatrix.{text}.gguf") for text in ("code", "prose")))
    changes = [item.change for item in found.changes]
    assert changes == sorted(changes, key=lambda number: -(number or 0))
    assert found.changes[0].name == "blk.3.ffn_down.weight"
    assert len(found.beyond(0.5)) == 6


def test_numbers_by_hand(tmp_path: Path) -> None:
    found = change(tmp_path, np.float32([[3, 4]]), np.float32([[12, 6]]), [1], [2])
    assert found == TensorChange(
        name="x.weight",
        change=pytest.approx(np.sqrt(9 + 1) / 5),
        cosine=pytest.approx((18 + 12) / 5 / np.sqrt(45)),
        rank=pytest.approx(-1),
        energy=pytest.approx(9 / 7),
    )


@settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(arrays(np.float32, (2, 12), elements=st.integers(0, 5).map(float)))
def test_rank_is_spearman_s(tmp_path: Path, rows: Rows) -> None:
    found = change(tmp_path, rows[:1], rows[1:], [1], [1])
    if len(set(rows[0])) > 1 and len(set(rows[1])) > 1:
        assert found.rank == pytest.approx(spearmanr(rows[0], rows[1]).statistic)
    else:
        assert found.rank is None


def test_experts_that_one_did_not_see_are_left_out(tmp_path: Path) -> None:
    rows = np.float32([[1, 2], [3, 4], [9, 9]])
    found = change(tmp_path, rows, rows * [[1], [1], [0]], [1, 0, 1], [1, 1, 0])
    assert (found.change, found.unpaired) == (0, 2)


def test_one_count_and_many(tmp_path: Path) -> None:
    rows = np.float32([[1, 2], [3, 4]])
    assert change(tmp_path, rows.reshape(1, 4), rows, [1], [1, 1]).change == 0


@pytest.mark.parametrize(("a", "b", "expected"), [(0, 0, 0), (0, 1, None), (1, 0, 1)])
def test_zeros(tmp_path: Path, a: int, b: int, expected: float | None) -> None:
    found = change(tmp_path, np.full((1, 2), a, np.float32), np.full((1, 2), b, np.float32), [1], [1])
    assert (found.change, found.cosine) == (expected, None)


def test_what_only_one_has(tmp_path: Path) -> None:
    paths = []
    for name, entries in (("a", ["x", "y"]), ("b", ["y", "z"])):
        path = tmp_path / f"{name}.dat"
        path.write_bytes(dat_bytes([(entry, 1, [1.0, 2.0]) for entry in entries]))
        paths.append(path)
    found = compare(*map(read_importance, paths))
    assert (found.only_first, found.only_second) == (("x",), ("z",))


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("x.weight", np.ones((1, 6)), r"b\.gguf: x\.weight has 6 values \(expected: 12, as in .*a\.gguf"),
        ("x.weight", np.ones((5, 12)), "has 60 values"),
        ("y.weight", np.ones((1, 12)), "no tensor in common"),
        ("x.weight", np.ones((3, 4)), "has 3 counts"),
    ],
)
def test_other_models(tmp_path: Path, name: str, rows: Rows, said: str) -> None:
    a = write_gguf_imatrix(tmp_path / "a.gguf", {"x.weight": (np.ones((4, 3), np.float32), [1] * 4)})
    b = write_gguf_imatrix(tmp_path / "b.gguf", {name: (np.float32(rows), [1] * len(rows))})
    with pytest.raises(ImportanceError, match=said):
        compare(read_importance(a), read_importance(b))
