"""TQ1_0 and TQ2_0: their byte maps as their modules draw them, and models that have three values."""

from __future__ import annotations

import numpy as np
import pytest
from support.formats import format_type

TQ1_0 = format_type("TQ1_0")
TQ2_0 = format_type("TQ2_0")


Ternary = TQ1_0 | TQ2_0
both = pytest.mark.parametrize("fmt", [TQ1_0(), TQ2_0()], ids=["TQ1_0", "TQ2_0"])


@both
def test_weights_of_three_values_come_back_as_they_were(fmt: Ternary) -> None:
    rows = np.random.default_rng(0).integers(-1, 2, (40, 512)).astype(np.float32) * np.float32(0.375)
    assert np.array_equal(fmt.decode(fmt.encode(rows), 512), rows)


@both
def test_halves_go_away_from_zero(fmt: Ternary) -> None:
    rows = np.zeros((1, 256), np.float32)
    rows[0, :6] = [1, 0.5, -0.5, np.nextafter(np.float32(0.5), np.float32(0)), -0.4999, -1]
    assert fmt.decode(fmt.encode(rows), 256)[0, :6].tolist() == [1, 1, -1, 0, 0, -1]


@both
def test_rows_too_small_for_an_inverse_become_zero(fmt: Ternary) -> None:
    rows = np.full((1, 256), 1e-42, np.float32)
    assert not fmt.decode(fmt.encode(rows), 256).any()


def digits(byte: int) -> list[int]:
    """Five digits in base three: the upper two bits of three times the byte, again and again."""
    found = []
    for _ in range(5):
        found.append(byte * 3 >> 8)
        byte = byte * 3 & 255
    return found


def test_tq1_0_bytes_are_where_the_map_says() -> None:
    data = np.random.default_rng(5).integers(0, 256, 54, np.uint8)
    data[52:] = np.float16([0.5]).view(np.uint8)
    expected = np.zeros(256, np.float32)
    for i in range(32):
        expected[i:160:32] = digits(int(data[i]))
    for i in range(16):
        expected[160 + i : 240 : 16] = digits(int(data[32 + i]))
    for i in range(4):
        expected[240 + i :: 4] = digits(int(data[48 + i]))[:4]
    assert np.array_equal(TQ1_0().decode(data[None], 256)[0], (expected - 1) * np.float32(0.5))


def test_tq2_0_bytes_are_where_the_map_says() -> None:
    data = np.random.default_rng(5).integers(0, 256, 66, np.uint8)
    data[64:] = np.float16([0.5]).view(np.uint8)
    weights = TQ2_0().decode(data[None], 256)[0]
    for n in range(256):
        h, c, i = n // 128, n % 128 // 32, n % 32
        assert weights[n] == np.float32(0.5) * ((int(data[32 * h + i]) >> 2 * c & 3) - 1)
