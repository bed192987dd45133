"""IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS and IQ2_S: byte maps decoded by hand, and rows that ggml doesn't answer."""

from __future__ import annotations

import numpy as np
import pytest
from support.formats import format_type

from quantrecipe.api import QuantFormat
from quantrecipe.core.grids.grid import grid_points
from quantrecipe.errors import FormatError

IQ1_M = format_type("IQ1_M")
IQ1_S = format_type("IQ1_S")
IQ2_S = format_type("IQ2_S")
IQ2_XS = format_type("IQ2_XS")
IQ2_XXS = format_type("IQ2_XXS")

ALL = [IQ1_S(), IQ1_M(), IQ2_XXS(), IQ2_XS(), IQ2_S()]
each = pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.spec.name)
D = np.float16(0.01)


def random_block(fmt: QuantFormat) -> np.ndarray:
    data = np.random.default_rng(8).integers(0, 256, fmt.spec.block_bytes, np.uint8)
    half = int(D.view(np.uint16))
    if fmt.spec.name == "IQ1_M":
        for b in range(4):
            data[49 + 2 * b] = data[49 + 2 * b] & 15 | (half >> 4 * b & 15) << 4
    else:
        data[:2] = half & 255, half >> 8
    return data


def by_hand(name: str, data: np.ndarray) -> list[np.float32]:
    """The 256 weights of a block, as the module's map says."""
    d, b = np.float32(D), [int(byte) for byte in data]
    table = grid_points("iq1" if name.startswith("IQ1") else name.lower(), levels=3)
    weights = []
    for k in range(32):  # eights
        if name == "IQ1_S":
            word = b[34 + 2 * (k // 4)] | b[35 + 2 * (k // 4)] << 8
            point = b[2 + k] | (word >> 3 * (k % 4) & 7) << 8
            scale, shift = d * (2 * (word >> 12 & 7) + 1), -0.125 if word >> 15 else 0.125
        elif name == "IQ1_M":
            upper = b[32 + k // 2] >> 4 * (k % 2)
            point, shift = b[k] | (upper & 7) << 8, -0.125 if upper & 8 else 0.125
            word = b[48 + 2 * (k // 8)] | b[49 + 2 * (k // 8)] << 8
            scale = d * (2 * (word >> 3 * (k // 2 % 4) & 7) + 1)
        elif name == "IQ2_XXS":
            at = 2 + 8 * (k // 4)
            word = int.from_bytes(data[at + 4 : at + 8].tobytes(), "little")
            point, signs, step = b[at + k % 4], word >> 7 * (k % 4) & 127, word >> 28
            signs |= (signs.bit_count() & 1) << 7
        elif name == "IQ2_XS":
            word = b[2 + 2 * k] | b[3 + 2 * k] << 8
            point, signs, step = word & 511, word >> 9, b[66 + k // 4] >> 4 * (k // 2 % 2) & 15
            signs |= (signs.bit_count() & 1) << 7
        else:
            point, signs = b[2 + k] | (b[66 + k // 4] >> 2 * (k % 4) & 3) << 8, b[34 + k]
            step = b[74 + k // 4] >> 4 * (k // 2 % 2) & 15
        for i in range(8):
            q = int(table[point, i])
            if name.startswith("IQ1"):
                weights.append(np.float32(scale) * np.float32(q - 1 + shift))
            else:
                size = d * np.float32(0.5 + step) * np.float32(0.25) * np.float32((8, 25, 43)[q])
                weights.append(-size if signs >> i & 1 else size)
    return weights


@each
def test_bytes_are_where_the_map_says(fmt: QuantFormat) -> None:
    data = random_block(fmt)
    assert fmt.decode(data[None], 256)[0].tolist() == [float(w) for w in by_hand(fmt.spec.name, data)]


@each
def test_rows_that_overflow_are_still_answered(fmt: QuantFormat) -> None:
    rng = np.random.default_rng(4)
    for size in (1e18, 1e25, 3e37):
        rows = (rng.standard_normal((3, 512)) * size).astype(np.float32)
        for importance in (
            np.ones(512),
            np.zeros(512),
            np.full(512, 3e38),
            10.0 ** rng.uniform(-38, 38, 512),
        ):
            data = fmt.encode(rows, importance.astype(np.float32))
            assert data.shape == (3, fmt.spec.row_bytes(512))


@each
def test_weights_too_small_for_a_scale_become_zero(fmt: QuantFormat) -> None:
    rows = np.full((2, 256), 1e-16, np.float32)
    assert not fmt.decode(fmt.encode(rows, np.ones(256, np.float32)), 256).any()


def test_formats_that_cannot_do_without_importance_say_so() -> None:
    rows = np.ones((1, 256), np.float32)
    for fmt in ALL:
        if fmt.spec.importance == "required":
            with pytest.raises(FormatError, match="without importance"):
                fmt.encode(rows)
        else:
            assert fmt.encode(rows).any()
