"""floor(log2f(x)) near every power of two, against arithmetic that doesn't round the logarithm twice."""

from __future__ import annotations

from decimal import Decimal, getcontext

import numpy as np
import pytest

from quantrecipe.core.fp4.floor_log2 import floor_log2

LARGEST = 0x7F7FFFFF


def oracle(bits: int) -> int:
    """The logarithm to 40 digits, rounded to float32 once, and down."""
    getcontext().prec = 40
    x = Decimal(float(np.uint32(bits).view(np.float32)))
    exact = x.ln() / Decimal(2).ln()
    # From Decimal to float64 to float32 is as good as once: no logarithm here is within 1e-12 of a float32 midpoint.
    return int(np.floor(np.float32(float(exact))))


def bits_of(k: int) -> int:
    """The bits of 2^k."""
    return 0x7F800000 if k == 128 else int(np.float32(2.0**k).view(np.uint32))


@pytest.mark.parametrize(
    "k", [-149, -148, -140, -131, -127, -126, -125, -64, -3, -1, 0, 1, 2, 3, 5, 64, 65, 127, 128]
)
def test_just_below_a_power_of_two_the_logarithm_rounds_up_to_it(k: int) -> None:
    for bits in range(max(1, bits_of(k) - 60), min(bits_of(k) + 3, LARGEST + 1)):
        assert floor_log2(np.uint32(bits)) == oracle(bits), f"{bits:#x}"


def test_44_numbers_below_2_to_the_128_count_as_it() -> None:
    found = [floor_log2(np.uint32(bits)) for bits in range(LARGEST - 60, LARGEST + 1)]
    assert found == [127] * 17 + [128] * 44


def test_elsewhere_it_is_the_exponent() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, LARGEST, 2000).astype(np.uint32)
    for bits in sizes:
        assert floor_log2(bits) == np.frexp(bits.view(np.float32))[1] - 1
