"""Q2_K and Q3_K: their byte maps as their modules draw them, decoded by hand, and the ends of float32's range."""

from __future__ import annotations

import numpy as np
import pytest
from support.formats import format_type

Q2_K = format_type("Q2_K")
Q3_K = format_type("Q3_K")


both = pytest.mark.parametrize("fmt", [Q2_K(), Q3_K()], ids=lambda fmt: fmt.spec.name)


def two_bits(data: np.ndarray, n: int) -> int:
    h, c, i = n // 128, n % 128 // 32, n % 32
    return int(data[32 * h + i]) >> 2 * c & 3


def test_q2_k_bytes_are_where_the_map_says() -> None:
    data = np.random.default_rng(5).integers(0, 256, 84, np.uint8)
    data[80:] = np.float16([0.01, 0.002]).view(np.uint8)
    d, dmin = (np.float32(v) for v in data[80:].view(np.float16))
    weights = Q2_K().decode(data[None], 256)[0]
    for n in range(256):
        scale, minimum = np.float32(data[n // 16] & 15), np.float32(data[n // 16] >> 4)
        assert weights[n] == d * scale * np.float32(two_bits(data[16:80], n)) - dmin * minimum


def test_q3_k_bytes_are_where_the_map_says() -> None:
    data = np.random.default_rng(5).integers(0, 256, 110, np.uint8)
    data[108:] = np.float16([0.01]).view(np.uint8)
    d = np.float32(data[108:].view(np.float16)[0])
    packed = [int(b) for b in data[96:108]]
    weights = Q3_K().decode(data[None], 256)[0]
    for n in range(256):
        g = n // 16
        scale = packed[g % 8] >> 4 * (g // 8) & 15 | (packed[8 + g % 4] >> 2 * (g // 4) & 3) << 4
        q = two_bits(data[32:96], n) | (int(data[n % 32]) >> n // 32 & 1) << 2
        assert weights[n] == d * np.float32(scale - 32) * np.float32(q - 4)


@both
def test_a_block_without_weights_is_zero(fmt: Q2_K | Q3_K) -> None:
    zeros = np.zeros((1, 256), np.float32)
    for importance in (None, np.ones(256, np.float32)):
        assert not fmt.decode(fmt.encode(zeros, importance), 256).any()


@both
def test_importance_lowers_the_error_where_it_is_high(fmt: Q2_K | Q3_K) -> None:
    rng = np.random.default_rng(4)
    rows = (rng.standard_normal((200, 512)) * 0.02).astype(np.float32)
    importance = np.where(np.arange(512) % 16 == 0, 100, 0.1).astype(np.float32)
    errors = [
        float((importance * (fmt.decode(fmt.encode(rows, w), 512) - rows) ** 2).sum())
        for w in (importance, None)
    ]
    assert errors[0] < 0.9 * errors[1]


def test_q3_k_scales_beyond_float32_round_to_nothing_as_in_ggml() -> None:
    rows = np.full((1, 256), 3e17, np.float32)
    data = Q3_K().encode(rows, np.full(256, 1e10, np.float32))[0]
    assert data[96:108].tolist() == [0] * 8 + [0b10101010] * 4
    assert data[108:].view(np.float16)[0] == 0
