"""Blocks of MXFP4 and NVFP4: what comes out means the same numbers, and is what the converter wrote."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.formats import format_type
from support.sources import in_any_runs, stored

from quantrecipe.errors import ModelError
from quantrecipe.model.source.floats import table_of_8_bits
from quantrecipe.model.source.layout import reshape, rows, stack
from quantrecipe.model.source.repack import MXFP4, NVFP4
from quantrecipe.model.source.source import Stored, TensorSource

CUTS = st.lists(st.integers(0, 30), max_size=4)
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""The 16 numbers of 4 bits. Source: OCP Microscaling Formats (MX) Specification."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


def random(shape: tuple[int, ...], low: int = 0, high: int = 256, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(low, high, shape, dtype=np.uint8)


def neighbours(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Two numbers in each byte, the first in the lower half: (…, n) → (…, 2 n)."""
    return E2M1[np.stack([stored & 15, stored >> 4], -1)].reshape(*stored.shape[:-1], -1)


def decoded(source: TensorSource, cuts: list[int]) -> NDArray[np.float32]:
    """What our own format makes of the bytes, as float32 of the source's shape."""
    raw = in_any_runs(source, cuts)
    return format_type(source.dtype)().decode(raw, source.cols).reshape(source.shape)


@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 3), CUTS)
def test_mxfp4(folder: Path, experts: int, height: int, count: int, cuts: list[int]) -> None:
    blocks, scales = random((experts, height, count, 16)), random((experts, height, count), 100, 140)
    source = MXFP4(
        blocks=reshape(stored(folder / "b", blocks, "U8"), (experts, height, 16 * count)),
        scales=stored(folder / "s", scales, "U8"),
    )
    expected = neighbours(blocks) * table_of_8_bits("F8_E8M0")[scales][..., np.newaxis]
    assert (source.shape, source.dtype) == ((experts, height, 32 * count), "MXFP4")
    assert source.row_bytes == 17 * count
    assert np.array_equal(decoded(source, cuts), expected.reshape(source.shape))
    assert pickle.loads(pickle.dumps(source)) == source


@given(st.integers(1, 6), st.integers(1, 3), CUTS)
def test_nvfp4(folder: Path, height: int, count: int, cuts: list[int]) -> None:
    weights, scales = random((height, 32 * count)), random((height, 4 * count), 8, 120)
    source = NVFP4(
        weights=stored(folder / "w", weights, "U8"), scales=stored(folder / "s", scales, "F8_E4M3")
    )
    factors = table_of_8_bits("F8_E4M3")[scales].repeat(16, 1)
    assert (source.shape, source.dtype, source.row_bytes) == ((height, 64 * count), "NVFP4", 36 * count)
    assert np.array_equal(decoded(source, cuts), neighbours(weights) * factors)
    assert pickle.loads(pickle.dumps(source)) == source


def test_experts_of_nvfp4_are_one_value(folder: Path) -> None:
    def expert(number: int) -> NVFP4:
        weights = stored(folder / f"w{number}", random((3, 32), seed=number), "U8")
        scales = stored(folder / f"s{number}", random((3, 4), 8, 120, number), "F8_E4M3")
        return NVFP4(weights=weights, scales=scales)

    both = stack([expert(0), expert(1)])
    assert isinstance(both, NVFP4)
    assert (both.shape, len(both.leaves)) == ((2, 3, 64), 2)
    found = in_any_runs(both, [2, 4])
    assert found[:3].tobytes() == in_any_runs(expert(0), []).tobytes()
    assert found[3:].tobytes() == in_any_runs(expert(1), []).tobytes()


def test_the_scale_s_sign_is_dropped(folder: Path) -> None:
    scales = np.array([[0x38, 0xB8, 0x80, 0x7E]], np.uint8)
    source = NVFP4(
        weights=stored(folder / "w", np.zeros((1, 32), np.uint8), "U8"),
        scales=stored(folder / "s", scales, "F8_E4M3"),
    )
    assert in_any_runs(source, [])[0, :4].tolist() == [0x38, 0x38, 0, 0x7E]


def nothing(name: str, dtype: str, *shape: int) -> Stored:
    return Stored(name=name, shape=shape, dtype=dtype, extents=())


B, S = nothing("b", "U8", 3, 32), nothing("s", "U8", 3, 2)


def test_what_does_not_go_together() -> None:
    with pytest.raises(ModelError, match=r"'b' .* doesn't have 16 bytes for each scale of tensor 's'"):
        MXFP4(blocks=B, scales=nothing("s", "U8", 3, 3))
    with pytest.raises(ModelError, match="doesn't have 16 bytes for each scale"):
        MXFP4(blocks=rows(B, 0, 2), scales=S)
    with pytest.raises(ModelError, match=r"isn't MXFP4 \(expected: U8 and U8\)"):
        MXFP4(blocks=B, scales=nothing("s", "F32", 3, 2))
    with pytest.raises(ModelError, match=r"isn't NVFP4 \(expected: U8 and F8_E4M3\)"):
        NVFP4(weights=B, scales=S)
    with pytest.raises(ModelError, match="doesn't have 8 bytes for each scale"):
        NVFP4(weights=B, scales=nothing("s", "F8_E4M3", 3, 3))
    with pytest.raises(ModelError, match="has rows of 32 weights, which aren't whole blocks of 64"):
        NVFP4(weights=nothing("b", "U8", 3, 16), scales=nothing("s", "F8_E4M3", 3, 2))
