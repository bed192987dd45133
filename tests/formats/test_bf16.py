"""BF16: the upper half of a float32, rounded to even."""

from __future__ import annotations

import gguf
import numpy as np
from support.formats import format_type

BF16 = format_type("BF16")


def test_rounds_as_gguf_py_does() -> None:
    upper = np.arange(0, 0x7F80, 7, dtype=np.uint32) << 16
    bits = np.concatenate([upper | low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)])
    x = np.concatenate([bits, bits | 0x80000000]).astype(np.uint32).view(np.float32)
    expected = gguf.quants.quantize(x[None], gguf.GGMLQuantizationType.BF16)
    assert np.array_equal(BF16().encode(x[None]), expected.view(np.uint8))


def test_ties_go_to_the_even_neighbour() -> None:
    x = np.array([0x3F808000, 0x3F818000], np.uint32).view(np.float32)
    assert BF16().encode(x[None]).view(np.uint16).tolist() == [[0x3F80, 0x3F82]]


def test_decodes_every_bfloat16() -> None:
    data = np.arange(1 << 16, dtype=np.uint16)
    decoded = BF16().decode(data.view(np.uint8)[None], data.size)[0]
    assert np.array_equal(decoded.view(np.uint32), data.astype(np.uint32) << 16)
