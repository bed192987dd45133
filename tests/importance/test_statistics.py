"""The statistics are those that `llama-imatrix --show-statistics` prints, to the last digit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.imatrix_files import dat_bytes, write_gguf_imatrix

from quantrecipe.importance.read_importance import read_importance
from quantrecipe.importance.statistics import TensorStatistics, by_layer, statistics

DATA = Path(__file__).parent.parent / "data" / "imatrix"


def recorded(path: Path, columns: int) -> Iterator[list[str]]:
    """The lines of numbers in one of the two tables."""
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) == columns and cells[0] != "Layer":
            yield cells


def digits(item: TensorStatistics) -> list[str]:
    """In llama-imatrix's digits; it has no similarity of the first layer as 0."""
    numbers = (item.total, item.lowest, item.highest, item.mean, item.deviation, item.active)
    numbers += (item.entropy, item.evenness, item.outliers)
    assert None not in numbers
    total, lowest, highest, mean, deviation, active, entropy, evenness, outliers = map(float, numbers)  # type: ignore[arg-type]  # as asserted
    return [
        *(f"{total:.2f}", f"{lowest:.4f}", f"{highest:.4f}", f"{mean:.2f}", f"{deviation:.2f}"),
        *(f"{active:.2%}", str(item.inputs), f"{entropy:.4f}", f"{evenness:.2%}", f"{outliers:.2%}"),
        f"{item.similarity or 0:.4f}",
    ]


@pytest.mark.parametrize(
    ("source", "answer", "tensors", "layers"),
    [
        ("imatrix.code.gguf", "imatrix.code.statistics.txt", 28, 4),
        ("imatrix.code.dat", "imatrix.code.statistics.txt", 28, 4),
        ("experts/a.gguf", "experts/a.statistics.txt", 7, 2),
    ],
)
def test_all_numbers_of_llama_imatrix(source: str, answer: str, tensors: int, layers: int) -> None:
    found = statistics(read_importance(DATA / source))
    mine = {("-" if item.layer is None else str(item.layer), item.role): item for item in found}
    lines = list(recorded(DATA / answer, 13))
    assert len(lines) == tensors
    for layer, role, *expected in lines:
        assert digits(mine[layer, role]) == expected
    means = [
        [str(mean.layer), f"{mean.total:.2f}", f"{mean.outliers:.4%}", f"{mean.similarity:.4f}"]
        for mean in by_layer(found)
    ]
    assert means == list(recorded(DATA / answer, 4))
    assert len(means) == layers


def test_experts_and_their_tokens() -> None:
    found = {item.name: item for item in statistics(read_importance(DATA / "experts" / "a.gguf"))}
    some = found["blk.0.ffn_down_exps.weight"]
    assert (some.seen, some.matrices, some.fewest, some.most, some.inputs) == (3, 4, 1, 700, 24)
    none = found["blk.1.ffn_up_exps.weight"]
    assert (none.seen, none.matrices, none.fewest, none.most, none.inputs) == (0, 4, 0, 0, 0)
    assert none.total is none.mean is none.similarity is None


def test_outside_the_layers_first_then_in_order(tmp_path: Path) -> None:
    row = (np.ones((1, 4), np.float32), [1])
    names = ["blk.10.a.weight", "blk.2.b.weight", "blk.2.a.weight", "output.weight"]
    found = statistics(read_importance(write_gguf_imatrix(tmp_path / "m.gguf", dict.fromkeys(names, row))))
    assert [item.name for item in found] == list(reversed(names))


@pytest.mark.parametrize(
    ("values", "has"),
    [
        ([0, 0], {"total": 0, "active": 0, "entropy": 0, "outliers": 0}),
        ([5], {"total": 5, "deviation": 0, "entropy": 0, "evenness": None}),
        ([1, 1, 1, 1], {"entropy": 2, "evenness": 1, "deviation": 0}),
        ([3e38, 3e38], {"total": None, "mean": None, "highest": pytest.approx(3e38)}),
    ],
)
def test_odd_values(tmp_path: Path, values: list[float], has: dict[str, float | None]) -> None:
    path = tmp_path / "m.dat"
    path.write_bytes(dat_bytes([("blk.1.a.weight", 1, values), ("blk.0.a.weight", 1, values)]))
    item = statistics(read_importance(path))[1]
    assert {name: getattr(item, name) for name in has} == has
    if has.get("total") == 0:
        assert item.similarity is None


def test_a_layer_before_of_another_size_is_not_compared(tmp_path: Path) -> None:
    entries = {
        "blk.0.a.weight": (np.ones((1, 4), np.float32), [1]),
        "blk.1.a.weight": (np.ones((1, 8), np.float32), [1]),
        "blk.2.a.weight": (np.ones((1, 8), np.float32), [1]),
    }
    found = statistics(read_importance(write_gguf_imatrix(tmp_path / "m.gguf", entries)))
    assert [item.similarity for item in found] == [None, None, pytest.approx(1, rel=1e-6)]
