"""IQ4_NL and IQ4_XS: their byte maps as their modules draw them, and blocks by hand."""

from __future__ import annotations

import numpy as np
from support.formats import format_type

from quantrecipe.core.scale_searches.iq4_nl_values import VALUES

IQ4_NL = format_type("IQ4_NL")
IQ4_XS = format_type("IQ4_XS")


def half(data: np.ndarray) -> np.float32:
    return np.float32(data.copy().view(np.float16)[0])


def random_bytes(nbytes: int, n: int = 50) -> np.ndarray:
    data = np.random.default_rng(4).integers(0, 256, (n, nbytes), np.uint8)
    data[:, 1] &= 0x3B  # a finite scale, not negative
    return data


def test_iq4_nl_decodes_by_its_byte_map() -> None:
    data = random_bytes(18)
    rows = IQ4_NL().decode(data, 32)
    for block, row in zip(data, rows, strict=True):
        indices = [*(block[2:] & 15), *(block[2:] >> 4)]
        assert row.tolist() == [half(block[:2]) * VALUES[i] for i in indices]


def test_iq4_xs_decodes_by_its_byte_map() -> None:
    data = random_bytes(136)
    rows = IQ4_XS().decode(data, 256)
    for block, row in zip(data, rows, strict=True):
        upper = int(block[2]) | int(block[3]) << 8
        for g in range(8):
            lower = int(block[4 + g // 2]) >> 4 * (g % 2) & 15
            scale = half(block[:2]) * np.float32((lower | (upper >> 2 * g & 3) << 4) - 32)
            q = block[8 + 16 * g : 24 + 16 * g]
            assert row[32 * g : 32 * g + 32].tolist() == [scale * VALUES[i] for i in [*(q & 15), *(q >> 4)]]


def test_the_values_themselves_come_back() -> None:
    rows = np.tile(VALUES, 2)[None] * np.float32(0.5)
    assert np.array_equal(IQ4_NL().decode(IQ4_NL().encode(rows), 32), rows)


def test_a_block_of_zeros() -> None:
    zeros = np.zeros((1, 256), np.float32)
    assert IQ4_NL().encode(zeros)[0].tolist() == ([0, 0] + [0x88] * 16) * 8
    data = IQ4_XS().encode(zeros)[0]
    assert data[:2].tolist() == [0x00, 0x80]  # ggml's -0.0
    assert data[2:8].tolist() == [0xAA, 0xAA, 0, 0, 0, 0]  # scales of 32 - 32
    assert set(data[8:].tolist()) == {0x88}
