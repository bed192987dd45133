"""IQ3_XXS and IQ3_S: their byte maps as their modules draw them, and what ggml does to odd groups."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from support.formats import format_type

from quantrecipe.core.grids.grid import grid_points

IQ3_S = format_type("IQ3_S")
IQ3_XXS = format_type("IQ3_XXS")

Three = IQ3_S | IQ3_XXS
both = pytest.mark.parametrize("fmt", [IQ3_XXS(), IQ3_S()], ids=["IQ3_XXS", "IQ3_S"])


def half(data: np.ndarray) -> np.float32:
    return np.float32(data.copy().view(np.float16)[0])


def random_bytes(nbytes: int, n: int = 20) -> np.ndarray:
    data = np.random.default_rng(5).integers(0, 256, (n, nbytes), np.uint8)
    data[:, 1] &= 0x3B  # a finite scale, not negative
    return data


def signed(values: np.ndarray, signs: int) -> list[float]:
    return [-v if signs >> i & 1 else v for i, v in enumerate(values.tolist())]


def test_iq3_xxs_decodes_by_its_byte_map() -> None:
    grid = np.array([4, 12, 20, 28, 36, 44, 52, 62], np.float32)[grid_points("iq3_xxs", levels=8)]
    data = random_bytes(98)
    for block, row in zip(data, IQ3_XXS().decode(data, 256), strict=True):
        for g in range(8):
            packed = int.from_bytes(block[66 + 4 * g : 70 + 4 * g].tobytes(), "little")
            scale = half(block[:2]) * np.float32(0.5 + (packed >> 28)) * np.float32(0.5)
            for k in range(4):
                points = np.concatenate([grid[block[2 + 8 * g + 2 * k + i]] for i in range(2)])
                signs = gguf.quants.IQ2_XXS.ksigns[packed >> 7 * k & 127]
                first = 32 * g + 8 * k
                assert row[first : first + 8].tolist() == signed(scale * points, signs)


def test_iq3_s_decodes_by_its_byte_map() -> None:
    grid = (2 * grid_points("iq3_s", levels=8) + 1).astype(np.float32)
    data = random_bytes(110)
    for block, row in zip(data, IQ3_S().decode(data, 256), strict=True):
        for i in range(64):
            upper = int(block[66 + i // 8]) >> i % 8 & 1
            scale = half(block[:2]) * np.float32(1 + 2 * (int(block[106 + i // 16]) >> 4 * (i // 8 % 2) & 15))
            signs = int(block[74 + i // 2]) >> 4 * (i % 2)
            point = grid[int(block[2 + i]) | upper << 8]
            assert row[4 * i : 4 * i + 4].tolist() == signed(scale * point, signs)


def test_iq3_xxs_stores_an_even_number_of_signs_and_changes_the_weight_that_matters_least() -> None:
    x = np.random.default_rng(0).standard_normal((30, 256)).astype(np.float32)
    x[abs(x) < 0.1] = 0.1
    back = IQ3_XXS().decode(IQ3_XXS().encode(x), 256)
    negative = (np.signbit(back)).reshape(-1, 8)
    assert not (negative.sum(axis=1) % 2).any()
    for weights, signs in zip(x.reshape(-1, 8), negative, strict=True):
        changed = np.flatnonzero(np.signbit(weights) != signs)
        odd = np.signbit(weights).sum() % 2
        assert changed.tolist() == ([int(abs(weights).argmin())] if odd else [])


def test_iq3_s_keeps_every_sign() -> None:
    x = np.random.default_rng(0).standard_normal((30, 256)).astype(np.float32)
    back = IQ3_S().decode(IQ3_S().encode(x), 256)
    assert np.array_equal(np.signbit(back), np.signbit(x))


def test_iq3_s_moves_what_follows_a_group_of_zeros_as_ggml_does() -> None:
    x = np.random.default_rng(0).standard_normal((1, 256)).astype(np.float32)
    whole = IQ3_S().encode(x)[0]
    x[:, 64:96] = 0
    holed = IQ3_S().encode(x)[0]
    # The signs of groups 3 to 7 stand in the places of groups 2 to 6, and the last place is empty.
    assert np.array_equal(holed[74:82], whole[74:82])
    assert np.array_equal(holed[82:102], whole[86:106])
    assert not holed[102:106].any()


@both
def test_zeros_are_zero(fmt: Three) -> None:
    zeros = np.zeros((2, 512), np.float32)
    assert not fmt.encode(zeros).any()
    assert not fmt.decode(fmt.encode(zeros), 512).any()


@both
@pytest.mark.parametrize("size", [1e18, 1e25, 1e38, 3e38])
def test_rows_too_large_for_ggml_are_answered_and_the_same_for_any_split(fmt: Three, size: float) -> None:
    rng = np.random.default_rng(6)
    x = (rng.uniform(-1, 1, (9, 512)) * size).astype(np.float32)
    x[::3, :256] *= np.float32(1e-30)
    importance = rng.exponential(1, 512).astype(np.float32)
    for weights in (None, importance):
        data = fmt.encode(x, weights)
        again = np.concatenate([fmt.encode(row[None], weights) for row in x[::-1]])[::-1]
        assert np.array_equal(data, again)
