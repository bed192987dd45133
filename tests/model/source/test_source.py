"""The contract of sources, and the leaves: stored bytes and constants."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from support.sources import in_any_runs, stored, whole

from quantrecipe.errors import ModelError
from quantrecipe.model.source.arithmetic import Add
from quantrecipe.model.source.layout import stack
from quantrecipe.model.source.source import Constant, Extent, Stored, TensorSource, fail, label, leaves_of

VALUES = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)


def test_a_stored_tensor(tmp_path: Path) -> None:
    source = stored(tmp_path / "a", VALUES, "BF16")
    assert (source.cols, source.rows, source.total_rows) == (4, 3, 6)
    assert (source.row_bytes, source.nbytes, source.stored_bytes(5)) == (8, 48, 40)
    assert (source.together, source.operands, source.leaves) == (1, (), (source,))
    assert in_any_runs(source, [1, 4, 5]).tobytes() == VALUES.tobytes()
    assert pickle.loads(pickle.dumps(source)) == source
    with pytest.raises(FrozenInstanceError):
        source.shape = (6, 4)  # type: ignore[misc]  # which is what is tried


def test_rows_of_blocks_are_as_long_as_the_bytes_say(tmp_path: Path) -> None:
    blocks = np.arange(4 * 34, dtype=np.uint8)
    source = stored(tmp_path / "a", blocks, "Q8_0")
    q8 = Stored(name="a", shape=(2, 2, 32), dtype="Q8_0", extents=source.extents)
    assert q8.row_bytes == 34
    assert in_any_runs(q8, [3]).tobytes() == blocks.tobytes()


def test_a_single_number(tmp_path: Path) -> None:
    source = stored(tmp_path / "a", np.array(1.5, np.float32), "F32")
    assert (source.shape, source.cols, source.rows, source.total_rows) == ((), 1, 1, 1)
    assert whole(source).view(np.float32) == 1.5


def test_a_constant() -> None:
    source = Constant(name="rope_freqs", shape=(2, 2), dtype="F32", data=np.arange(4, dtype="<f4").tobytes())
    assert (source.row_bytes, source.nbytes, source.extents) == (8, 16, ())
    assert in_any_runs(source, [1]).view("<f4").tolist() == [[0, 1], [2, 3]]
    assert pickle.loads(pickle.dumps(source)) == source
    short = Constant(shape=(3,), dtype="F32", data=bytes(8))
    with pytest.raises(ValueError, match="bytes 0 to 12 of 8"):
        whole(short)


def test_leaves_of_an_expression(tmp_path: Path) -> None:
    """One that stands in several places is one leaf; so is an equal one that is another object."""
    a, b = stored(tmp_path / "a", VALUES[0], "BF16"), stored(tmp_path / "b", VALUES[1], "BF16", "b")
    again = Stored(name=a.name, shape=a.shape, dtype=a.dtype, extents=a.extents)
    parts: list[TensorSource] = [Add(source=it, number=1) for it in (b, a, again)]
    source = stack(parts)
    assert [*leaves_of(source)] == [b, a, a]
    assert source.leaves == (b, a)
    assert source.nbytes == a.nbytes + b.nbytes
    assert source.extents == (*b.extents, *a.extents)
    assert (source.stored_name, label(source)) == ("b", "tensor 'b' (F32 (3, 3, 4))")


def test_an_error_about_what_comes_from_no_file() -> None:
    with pytest.raises(ModelError, match=r"^tensor 'x' \(F32 \(2,\)\) is odd; mend it$"):
        fail(Constant(name="x", shape=(2,), dtype="F32", data=bytes(8)), "is odd", "mend it")


def test_cutting_across_extents() -> None:
    """Extents don't end where matrices do."""
    extents = tuple(Extent(path=Path("a"), offset=100 * i, nbytes=n) for i, n in enumerate((6, 0, 10, 8)))
    source = Stored(name="a", shape=(2, 3, 2), dtype="BF16", extents=extents)
    assert [(e.offset, e.nbytes) for e in source.cut(1, 3).extents] == [(4, 2), (200, 6), (300, 8)]
    assert [(e.offset, e.nbytes) for e in source.cut(0, 3).extents] == [(0, 6), (200, 6), (206, 4), (300, 8)]
    assert source.cut(1, 1).extents == ()
