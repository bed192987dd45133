"""The 8-bit scale of NVFP4: all bytes, and rounding as ggml has it."""

from __future__ import annotations

import numpy as np

from quantrecipe.core.fp4.ue4m3 import half_of_ue4m3, ue4m3_of


def value(byte: int) -> float:
    exponent, fraction = byte >> 3 & 15, byte & 7
    return fraction * 2.0**-9 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)


def test_half_the_value_of_every_byte() -> None:
    for byte in range(256):
        expected = 0.0 if byte == 0x7F else value(byte) / 2
        assert half_of_ue4m3(np.int32(byte)) == np.float32(expected), byte


def test_every_value_below_256_comes_back() -> None:
    for byte in range(0x78):
        assert ue4m3_of(np.float32(value(byte))) == byte


def test_halves_round_up_and_what_lies_below_them_doesnt() -> None:
    for byte in range(0x77):
        middle = np.float32((value(byte) + value(byte + 1)) / 2)
        carried = 0 if byte == 7 else 1  # ggml doesn't round from the denormals to the smallest normal one
        assert ue4m3_of(middle) == byte + carried
        assert ue4m3_of(middle * np.float32(1 - 1e-6)) == byte


def test_from_248_on_all_is_448_as_in_ggml() -> None:
    for size in (248, 250, 256, 300, 447, 448, 1e6, 3e38):
        assert ue4m3_of(np.float32(size)) == 0x7E
    assert ue4m3_of(np.float32(247.9)) == 0x77


def test_zero_and_denormals_are_zero() -> None:
    for size in (0.0, 1e-45, 1e-38, 2.0**-10.001):
        assert ue4m3_of(np.float32(size)) == 0
