"""Rounded and shaken: what a probe puts in a tensor's place, and what a type's own rounding is like."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe import load_registry
from quantrecipe.measure.rounding import SHAKEN, Rounded, shaken

REGISTRY = load_registry(plugins=False)


def test_rounding_keeps_groups_of_rows_together() -> None:
    q8, q4 = REGISTRY.formats["Q8_0"], REGISTRY.formats["Q4_0"]
    rounded = Rounded(q8, q4)
    assert rounded.spec.row_bytes(64) == q8.spec.row_bytes(64)
    assert rounded.spec.importance == q4.spec.importance


@pytest.mark.parametrize("type_", SHAKEN)
def test_shaking_is_like_the_type_s_own_rounding(type_: str) -> None:
    """Of values that have far more digits than the type: in float64 for F32, which has the most."""
    fmt = REGISTRY.format(type_)
    exact = np.random.default_rng(1).standard_normal((64, 1024))
    data = fmt.encode(exact.astype(np.float32))
    held = fmt.decode(data, 1024).astype(np.float64)
    moved = fmt.decode(
        shaken(data.reshape(-1), type_, np.random.default_rng(2)).reshape(data.shape), 1024
    ).astype(np.float64)
    assert np.square(moved - held).mean() == pytest.approx(np.square(held - exact).mean(), rel=0.1)
    assert (moved != held).mean() == pytest.approx(1 / 12, rel=0.05)
    assert abs((moved - held).mean()) < 0.05 * np.abs(moved - held).mean()


@pytest.mark.parametrize("type_", ["F32", "F16", "BF16"])
def test_shaking_stays_finite_and_leaves_signs(type_: str) -> None:
    fmt = REGISTRY.format(type_)
    largest = {"F32": np.finfo(np.float32).max, "F16": 65504.0, "BF16": 3.3895314e38}[type_]
    rows = np.tile(np.array([[largest, -largest, 0.0, -0.0, 1e-30, -1e-30]], np.float32), (1, 200))
    data = fmt.encode(rows)
    for seed in range(3):
        moved = fmt.decode(
            shaken(data.reshape(-1), type_, np.random.default_rng(seed)).reshape(data.shape), 1200
        )
        assert np.isfinite(moved).all()
        assert (np.signbit(moved) == np.signbit(rows)).all()


def test_codes_of_eight_bits_stay_within_theirs() -> None:
    """llama.cpp's own encoder never gives -128."""
    fmt = REGISTRY.format("Q8_0")
    data = fmt.encode(np.tile(np.array([[1.0, -1.0]], np.float32), (4, 512)))
    codes = shaken(data.reshape(-1), "Q8_0", np.random.default_rng(0)).reshape(-1, 34)[:, 2:].view(np.int8)
    assert codes.min() == -127
    assert codes.max() == 127
    assert (np.abs(codes) == 126).any()


def test_what_no_resident_model_has_stays() -> None:
    data = np.arange(144, dtype=np.uint8)
    assert np.array_equal(shaken(data, "Q4_K", np.random.default_rng(0)), data)
