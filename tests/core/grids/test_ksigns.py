"""Signs in a byte."""

from __future__ import annotations

import gguf
import numpy as np

from quantrecipe.core.grids.ksigns import SIGNS, even


def test_the_eighth_bit_follows_from_the_others_as_in_gguf_py() -> None:
    assert [int(even(np.uint32(bits))) for bits in range(128)] == list(gguf.quants.IQ2_XXS.ksigns)


def test_factors_of_a_byte() -> None:
    assert SIGNS.dtype == np.float32
    assert SIGNS[0b10000101].tolist() == [-1, 1, -1, 1, 1, 1, 1, -1]
