"""Signs of eight weights in a byte: bit i is set where weight i is negative.

IQ3_S and IQ2_S store the byte. IQ2_XXS, IQ2_XS and IQ3_XXS store its lower seven bits and have an even number of
negative weights, so that the eighth bit follows. ggml: ksigns_iq2xs.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core.jit import kernel
from quantrecipe.core.scalars import Int

__all__ = ["SIGNS", "even"]

SIGNS = np.where(np.arange(256)[:, None] >> np.arange(8) & 1, np.float32(-1), np.float32(1))
"""float32 (256, 8): the factors that a byte stands for."""


@kernel
def even(bits: Int) -> Int:
    """The byte of seven bits (uint32): the eighth makes the number of set bits even."""
    folded = bits ^ (bits >> np.uint32(4))
    folded ^= folded >> np.uint32(2)
    folded ^= folded >> np.uint32(1)
    return np.uint32(bits | np.uint32((folded & np.uint32(1)) << np.uint32(7)))
