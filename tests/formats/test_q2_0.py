"""Q2_0: its byte map, by hand; ggml's own decoding, since gguf-py has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.formats import format_type

Q2_0 = format_type("Q2_0")


GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "Q2_0.npz"


def test_a_block_by_hand() -> None:
    rows = np.zeros((1, 64), np.float32)
    rows[0, :5] = [2, -2, 1, -0.9, 0.9]  # halves go away from zero
    data = Q2_0().encode(rows)[0]
    assert data[:2].view(np.float16)[0] == 2
    assert data[2:5].tolist() == [0b01_10_00_10, 0b01_01_01_01, 0b01_01_01_01]
    assert Q2_0().decode(data[None], 64)[0, :5].tolist() == [2, -2, 2, 0, 0]


def test_decodes_as_ggml_does() -> None:
    recorded = np.load(GOLDEN)
    for columns in (1024, 192):
        back = Q2_0().decode(recorded[f"{columns}/weighted"], columns)
        assert np.array_equal(back.view(np.uint32), recorded[f"{columns}/decoded"].view(np.uint32))


def test_all_four_values_of_random_bytes() -> None:
    data = np.random.default_rng(3).integers(0, 256, (20, 36), np.uint8)
    blocks = data.reshape(40, 18)
    d = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    q = (blocks[:, 2:, None] >> np.arange(0, 8, 2) & 3).reshape(40, 64).astype(np.float32)
    with np.errstate(invalid="ignore"):
        expected = ((q - 1) * d).reshape(20, 128)
    assert np.array_equal(Q2_0().decode(data, 128), expected, equal_nan=True)


def test_a_block_without_a_finite_inverse_has_the_lowest_integers_as_in_ggml() -> None:
    data = Q2_0().encode(np.full((1, 64), 1e-42, np.float32))
    assert not data.any()
    assert not Q2_0().decode(data, 64).any()
    assert (Q2_0().encode(np.zeros((1, 64), np.float32))[0, 2:] == 0b01_01_01_01).all()
