"""One scale for many scales: scale[g] ≈ d * level[g], weighted by what each group counts.

ik_llama.cpp: make_qx_quants. The scale of largest size becomes -nmax, and for eighteen tries a little more or less.
"""

from __future__ import annotations

from typing import Any

from quantrecipe.core import kernel
from quantrecipe.core.lanes import first_largest, nearest_int
from quantrecipe.core.scalars import F32, I32, ZERO

__all__ = ["fit_scales"]

STEP = F32(0.1)
STEPS = 9


@kernel
def fit_scales(scales: Any, counts: Any, first: Any, count: Any, nmax: Any, levels: Any) -> Any:
    """The best d for count scales from `first` on; levels[:count] (int32, -nmax to nmax - 1) are what they become."""
    peak = first_largest(scales, first, count)
    if peak == ZERO:
        levels[:count] = I32(-nmax)
        return ZERO
    low, high = I32(-nmax), I32(nmax - 1)
    best, d = ZERO, ZERO
    for step in range(-STEPS - 1, STEPS + 1):
        # First -nmax itself; its own turn among the steps is left out.
        if step == 0:
            continue
        plain = step < -STEPS
        iscale = F32(-nmax) / peak if plain else -(F32(nmax) + STEP * F32(step)) / peak
        sxl, sl2 = ZERO, ZERO
        for g in range(count):
            level = F32(min(max(nearest_int(iscale * scales[first + g]), low), high))
            w = counts[first + g]
            sxl += w * scales[first + g] * level
            sl2 += w * level * level
        if plain or (sl2 > ZERO and sxl * sxl > best * sl2):
            d = sxl / sl2 if sl2 != ZERO else ZERO
            best = d * sxl
            for g in range(count):
                levels[g] = min(max(nearest_int(iscale * scales[first + g]), low), high)
    return d
