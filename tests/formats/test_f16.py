"""F16: every half, every midpoint between two, and what lies beyond."""

from __future__ import annotations

import numpy as np
from support.formats import format_type

F16 = format_type("F16")


def test_rounds_as_ieee_does_everywhere() -> None:
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[1:].astype(np.float64) + halves[:-1]) / 2
    near = np.concatenate([halves, middles, np.nextafter(middles.astype(np.float32), np.float32(0))])
    x = np.concatenate([near, -near, np.float32([65519.9, 65520, 1e5, 3e38, 1e-45, -0.0])]).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).view(np.uint8)
    assert np.array_equal(F16().encode(x[None])[0], expected)


def test_decodes_every_half() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16)
    expected = halves.view(np.float16).astype(np.float32)
    decoded = F16().decode(halves.view(np.uint8)[None], halves.size)[0]
    assert np.array_equal(decoded.view(np.uint32), expected.view(np.uint32))
