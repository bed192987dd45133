"""NVFP4: its byte map, by hand, and rows that are too small or too large for its scale."""

from __future__ import annotations

import numpy as np
import pytest
from support.formats import format_type

from quantrecipe.tensor import TensorInfo

MXFP4 = format_type("MXFP4")
NVFP4 = format_type("NVFP4")

TWICE = np.float32([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12])


def test_bytes_are_where_the_map_says() -> None:
    data = np.random.default_rng(5).integers(0, 256, 36, np.uint8)
    data[:4] = [0x38, 0x40, 0x01, 0x00]  # 1, 2, 2^-9, 0
    weights = NVFP4().decode(data[None], 64)[0]
    for n in range(64):
        g, i = divmod(n, 16)
        q = int(data[4 + 8 * g + i % 8]) >> 4 * (i // 8) & 15
        assert weights[n] == TWICE[q] * np.float32([0.5, 1, 2.0**-10, 0][g])


def test_all_that_it_can_hold_comes_back_as_it_was() -> None:
    rows = np.stack([np.tile(TWICE / 2 * np.float32(2.0**k), 4) for k in range(-9, 8)])
    assert np.array_equal(NVFP4().decode(NVFP4().encode(rows), 64), rows)


def test_groups_too_small_for_their_scale_are_zero() -> None:
    assert not NVFP4().encode(np.full((1, 64), 0.005, np.float32)).any()


def test_of_equal_distances_the_first_value_wins_also_far_beyond_the_largest() -> None:
    rows = np.zeros((1, 64), np.float32)
    rows[0, [0, 16, 17, 32]] = [1e12, 1e9, -1e9, 3000]
    data = NVFP4().encode(rows)[0]
    assert data[:4].tolist() == [0x7E, 0x7E, 0x7E, 0]
    distances = np.abs(TWICE * np.float32(224) - np.float32(1e12))
    assert data[4] & 15 == np.argmin(distances) == 0
    assert [data[12] & 15, data[13] & 15, data[20] & 15] == [7, 15, 7]


@pytest.mark.parametrize("sigma", [1e-4, 0.001, 0.02, 1, 100])
def test_with_its_factor_it_holds_weights_of_any_size_better_than_mxfp4(sigma: float) -> None:
    rows = (np.random.default_rng(0).standard_normal((200, 512)) * sigma).astype(np.float32)
    factor = np.float32(NVFP4().factor(float(np.abs(rows).max())))
    back = factor * NVFP4().decode(NVFP4().encode(rows / factor), 512)
    other = MXFP4().decode(MXFP4().encode(rows), 512)
    error, mxfp4 = (float(np.linalg.norm(rows - x) / np.linalg.norm(rows)) for x in (back, other))
    assert error < 0.096 < mxfp4


@pytest.mark.parametrize("peak", [1e-45, 1e-38, 0.37, 1440.0, 1441.0, 3.4e38])
def test_the_factor_is_a_power_of_two_that_brings_the_peak_to_the_top(peak: float) -> None:
    factor = NVFP4().factor(peak)
    assert np.frexp(factor)[0] == 0.5
    assert np.float32(factor) == factor
    assert peak / factor <= 1440
    assert peak / factor > 720 or factor == 2.0**-126


def test_an_empty_matrix_has_a_factor_of_one() -> None:
    assert NVFP4().factor(0.0) == 1


@pytest.mark.parametrize("name", ["token_embd", "blk.0.attn_kv_b", "blk.0.ffn_gate_inp"])
def test_matrices_whose_scale_llama_cpp_does_not_load_are_refused(name: str) -> None:
    tensor = TensorInfo.from_name(f"{name}.weight", (64, 64), "F32")
    assert "llama.cpp knows no scale" in (NVFP4().accepts(tensor) or "")


def test_matrices_with_a_scale_are_accepted_where_columns_divide() -> None:
    for columns, accepted in ((128, True), (96, False)):
        tensor = TensorInfo.from_name("blk.3.ffn_down_exps.weight", (8, 64, columns), "F32")
        assert (NVFP4().accepts(tensor) is None) == accepted
