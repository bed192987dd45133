"""Q4_1, Q5_0 and Q5_1: their byte maps as their modules draw them, and the ends of float32's range."""

from __future__ import annotations

import numpy as np
import pytest
from support.formats import format_type

Q4_1 = format_type("Q4_1")
Q5_0 = format_type("Q5_0")
Q5_1 = format_type("Q5_1")


Block32 = Q4_1 | Q5_0 | Q5_1
all_three = pytest.mark.parametrize("fmt", [Q4_1(), Q5_0(), Q5_1()], ids=lambda fmt: fmt.spec.name)


def fifth_bits(data: np.ndarray) -> np.ndarray:
    return np.unpackbits(data, bitorder="little").astype(np.float32)


def halves(data: np.ndarray) -> np.ndarray:
    return np.concatenate([data & 15, data >> 4]).astype(np.float32)


def test_bytes_are_where_the_map_says() -> None:
    rng = np.random.default_rng(5)
    d, m = np.float16([0.25, -3])
    head = np.array([d, m]).view(np.uint8)
    packed = rng.integers(0, 256, 20, np.uint8)
    five = halves(packed[4:]) + 16 * fifth_bits(packed[:4])
    q4_1 = np.concatenate([head, packed[4:]])
    assert np.array_equal(
        Q4_1().decode(q4_1[None], 32)[0], halves(packed[4:]) * np.float32(d) + np.float32(m)
    )
    q5_0 = np.concatenate([head[:2], packed])
    assert np.array_equal(Q5_0().decode(q5_0[None], 32)[0], (five - 16) * np.float32(d))
    q5_1 = np.concatenate([head, packed])
    assert np.array_equal(Q5_1().decode(q5_1[None], 32)[0], five * np.float32(d) + np.float32(m))


@all_three
def test_levels_come_back_as_they_were(fmt: Block32) -> None:
    levels = np.arange(32) // 2 if fmt.spec.name == "Q4_1" else np.arange(32)
    rows = np.random.default_rng(1).permuted(np.tile(levels, (20, 1)), axis=1).astype(np.float32)
    if fmt.spec.name == "Q5_0":
        rows -= 16
    assert np.array_equal(fmt.decode(fmt.encode(rows), 32), rows)


@all_three
def test_a_constant_block_is_as_exact_as_a_half(fmt: Block32) -> None:
    for value in (0.0, -0.0, 0.75, -0.75):
        rows = np.full((1, 32), value, np.float32)
        assert np.array_equal(fmt.decode(fmt.encode(rows), 32), rows)


@all_three
def test_a_block_too_small_for_its_scale_has_integers_of_zero(fmt: Block32) -> None:
    rows = np.tile(np.float32([1e-42, -1e-42, 0, 5e-43]), 8)[None]
    assert not fmt.encode(rows)[0, fmt.spec.block_bytes - 16 :].any()


def test_a_range_beyond_float32_has_integers_of_zero() -> None:
    rows = np.tile(np.float32([3e38, -3e38, 0, 1e38]), 8)[None]
    for fmt in (Q4_1(), Q5_1()):
        data = fmt.encode(rows)
        assert data[0, :4].copy().view(np.float16).tolist() == [np.inf, -np.inf]
        assert not data[0, 4:].any()


def test_of_zeros_the_first_one_is_the_minimum() -> None:
    rows = np.ones((2, 32), np.float32)
    rows[:, [5, 9]] = [[0.0, -0.0], [-0.0, 0.0]]
    for fmt in (Q4_1(), Q5_1()):
        assert fmt.encode(rows)[:, 3].tolist() == [0x00, 0x80]


def test_of_two_largest_sizes_the_first_one_decides_the_sign_of_the_scale() -> None:
    rows = np.zeros((2, 32), np.float32)
    rows[:, [4, 20]] = [[16, -16], [-16, 16]]
    assert Q5_0().encode(rows)[:, :2].copy().view(np.float16)[:, 0].tolist() == [-1, 1]
