"""Types that NumPy lacks, against what their bits mean; float32 → BF16, against gguf-py and by hand."""

from __future__ import annotations

import math

import gguf
import numpy as np
import pytest
from gguf import quants

from quantrecipe.model.source.floats import as_array, from_float32, table_of_8_bits, to_float32


def meant(bits: int, exponent_bits: int, mantissa_bits: int, bias: int) -> float:
    """The number that sign, exponent and mantissa stand for, subnormal ones included."""
    sign = -1.0 if bits >> (exponent_bits + mantissa_bits) else 1.0
    exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1)
    mantissa = bits & ((1 << mantissa_bits) - 1)
    if exponent == 0:
        return sign * math.ldexp(mantissa, 1 - bias - mantissa_bits)
    return sign * math.ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits)


@pytest.mark.parametrize(
    ("dtype", "exponent", "mantissa", "bias", "special"),
    [("F8_E4M3", 4, 3, 7, {0x7F, 0xFF}), ("F8_E5M2", 5, 2, 15, {*range(0x7C, 0x80), *range(0xFC, 0x100)})],
)
def test_8_bit_floats(dtype: str, exponent: int, mantissa: int, bias: int, special: set[int]) -> None:
    found = table_of_8_bits(dtype)
    for bits in set(range(256)) - special:
        expected = meant(bits, exponent, mantissa, bias)
        assert (found[bits], math.copysign(1, found[bits])) == (expected, math.copysign(1, expected))
    assert not np.isfinite(found[sorted(special)]).any()
    assert np.isnan(found[0x7F])


def test_exponents_alone() -> None:
    found = table_of_8_bits("F8_E8M0")
    assert found[:255].tolist() == [math.ldexp(1, e - 127) for e in range(255)]
    assert np.isnan(found[255])


def test_tables_stay_what_they_are() -> None:
    with pytest.raises(ValueError, match="read-only"):
        table_of_8_bits("F8_E4M3")[0] = 1


HALVES = [
    0.0,
    -0.0,
    1.0,
    1 + 2**-8,
    1 + 3 * 2**-8,
    1 + 2**-8 + 2**-20,
    -(1 + 2**-8),
    3.3895314e38,
    3.4e38,
    1e-45,
]
"""Ties in both directions, just beyond a tie, the largest BF16, what overflows, the smallest float32."""


def test_float32_becomes_bf16_as_in_gguf_py() -> None:
    random = np.random.default_rng(0).integers(0, 2**32, 20_000, np.uint32)
    random[: len(HALVES)] = np.array(HALVES, np.float32).view(np.uint32)
    random[-2:] = (
        0x7F800001,
        0xFFFFFFFF,
    )  # NaN by its lowest bit alone, and one that would carry into the sign
    values = random.view(np.float32).reshape(-1, 32)
    expected = quants.quantize(values, gguf.GGMLQuantizationType.BF16)
    finite = ~np.isnan(values)
    found = from_float32(values, "BF16").view(np.uint16)
    assert np.array_equal(found[finite], expected.view(np.uint16)[finite])
    back = to_float32(found.view(np.uint8), "BF16")
    assert np.array_equal(np.isnan(back), ~finite)
    assert np.array_equal(np.signbit(back), np.signbit(values))


def test_other_types_that_weights_are_computed_in() -> None:
    values = np.array([[1.5, -2.0, 1e6]], np.float32)
    assert from_float32(values, "F32").tobytes() == values.tobytes()
    assert from_float32(values, "F16").view(np.float16).tolist() == [[1.5, -2.0, np.inf]]
    with pytest.raises(ValueError, match="Q8_0 isn't a type that weights are computed in"):
        from_float32(values, "Q8_0")


def test_rows_that_do_not_lie_together() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert from_float32(values.T, "F32").view(np.float32).tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "I8", "I32", "I64", "U8"])
def test_numbers_as_float32(dtype: str) -> None:
    kind = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I8": "i1", "I32": "<i4", "I64": "<i8", "U8": "u1"}
    if dtype == "BF16":
        raw = np.array([[0x4000, 0x4040]], np.uint16).view(np.uint8)
    else:
        raw = np.array([[2, 3]], kind[dtype]).view(np.uint8)
    assert to_float32(raw, dtype).tolist() == [[2, 3]]
    assert as_array(raw, dtype).tolist() == [[2, 3]]
