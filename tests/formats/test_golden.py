"""Every format gives the bytes that ggml's quantizers gave, and decodes them as gguf-py does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from quantrecipe.api import QuantFormat
from quantrecipe.formats import ALL

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
RECORDED = [fmt for fmt in ALL if (GOLDEN / f"{fmt.spec.name}.npz").exists()]
DECODED_BY_GGUF = [fmt for fmt in ALL if fmt.spec.codec and fmt.spec.name not in ("Q1_0", "Q2_0")]


def name(fmt: QuantFormat) -> str:
    return fmt.spec.name


def answers(fmt: QuantFormat) -> Iterator[tuple[str, np.ndarray, np.ndarray | None, np.ndarray]]:
    """(label, rows, importance, ggml's bytes) of each recording of a format."""
    inputs = np.load(GOLDEN / "inputs.npz")
    recorded = np.load(GOLDEN / f"{fmt.spec.name}.npz")
    for key in recorded.files:
        columns, kind = key.split("/", 1)
        if kind in ("plain", "weighted"):
            weights = inputs[f"w{columns}"] if kind == "weighted" else None
            yield key, inputs[f"x{columns}"], weights, recorded[key]


def by_gguf_py(fmt: QuantFormat, data: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):  # infinite scales, in extreme rows and in random bytes
        return gguf.quants.dequantize(data, gguf.GGMLQuantizationType(fmt.spec.ggml_type))


def same_floats(one: np.ndarray, other: np.ndarray) -> bool:
    """Bit for bit, but for which NaN it is."""
    same = (one.view(np.uint32) == other.view(np.uint32)) | (np.isnan(one) & np.isnan(other))
    return bool(same.all())


@pytest.mark.parametrize("fmt", RECORDED, ids=name)
def test_encodes_as_ggml_does(fmt: QuantFormat) -> None:
    for label, rows, importance, expected in answers(fmt):
        wrong = np.flatnonzero((fmt.encode(rows, importance) != expected).any(axis=1))
        assert wrong.size == 0, f"{label}: rows {wrong.tolist()}"


@pytest.mark.parametrize("fmt", RECORDED, ids=name)
def test_recordings_cover_what_the_format_promises(fmt: QuantFormat) -> None:
    kinds = {label.split("/")[1] for label, *_ in answers(fmt)}
    assert "weighted" in kinds
    assert ("plain" in kinds) == (fmt.spec.importance != "required")


@pytest.mark.parametrize("fmt", [fmt for fmt in RECORDED if fmt in DECODED_BY_GGUF], ids=name)
def test_decodes_ggml_bytes_as_gguf_py_does(fmt: QuantFormat) -> None:
    for label, rows, _, data in answers(fmt):
        expected = by_gguf_py(fmt, data)
        assert same_floats(fmt.decode(data, rows.shape[1]), expected), label


@pytest.mark.parametrize("fmt", DECODED_BY_GGUF, ids=name)
def test_decodes_any_bytes_as_gguf_py_does(fmt: QuantFormat) -> None:
    k = max(fmt.spec.block, 64) * 3
    data = np.random.default_rng(7).integers(0, 256, (200, fmt.spec.row_bytes(k)), np.uint8)
    assert same_floats(fmt.decode(data, k), by_gguf_py(fmt, data))
