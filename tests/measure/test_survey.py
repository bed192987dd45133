"""Survey: the hash of what is stored, and energy and peak of the rows that come out, whatever the source is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xxhash
from support.sources import stored

from quantrecipe.errors import NonFiniteError
from quantrecipe.measure.buffers import Buffers
from quantrecipe.measure.survey import Survey, survey
from quantrecipe.model.source.layout import Transpose, rope_order
from quantrecipe.model.source.source import Stored, TensorSource
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.registry import load_registry
from quantrecipe.tensor import TensorInfo

SHAPE = (16, 8)
VALUES = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
SOURCES: dict[str, tuple[Callable[[Stored], TensorSource], np.ndarray]] = {
    "stored": (lambda it: it, VALUES),
    "rope": (lambda it: rope_order(it, 2), VALUES.reshape(2, 2, 4, 8).swapaxes(1, 2).reshape(16, 8)),
    "transposed": (lambda it: Transpose(source=it), VALUES.T),
}


def of(source: TensorSource, advanced: list[int]) -> Survey:
    tensor = TensorInfo.from_name("blk.0.attn_q.weight", source.shape, "F32")
    fmt = load_registry(plugins=False).format("F32")
    with TensorReader() as reader:
        return survey(tensor, source, fmt, reader, Buffers(), advanced.append)


@pytest.mark.parametrize("name", SOURCES)
def test_rows_that_come_out(name: str, tmp_path: Path) -> None:
    make, expected = SOURCES[name]
    advanced: list[int] = []
    found = of(make(stored(tmp_path / "a", VALUES, "F32")), advanced)
    assert found.digest == xxhash.xxh3_128_hexdigest(VALUES.tobytes())
    assert np.array_equal(found.peak, np.abs(expected).max(1))
    assert np.allclose(found.energy, (expected.astype(np.float64) ** 2).sum(1))
    assert sum(advanced) == VALUES.size


def test_a_weight_that_isn_t_finite(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[3, 5] = np.nan
    with pytest.raises(NonFiniteError, match=r"blk\.0\.attn_q\.weight: a weight of row 5 is NaN or Inf"):
        of(Transpose(source=stored(tmp_path / "a", values, "F32")), [])
