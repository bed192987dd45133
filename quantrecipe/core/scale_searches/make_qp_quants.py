"""The best common scale for numbers that aren't negative: x ≈ scale * q, q an integer from 0 to nmax.

ggml: make_qp_quants. It quantizes the scales (and the minima) of a super-block's groups, each weighted by what
its group counts: eight tries around nmax / max, least squares on the best, then up to five rounds that move
single integers.

    table  rows of LANES floats: one super-block per lane
      IN       (32 rows)  the numbers
      COUNTS   (32 rows)  their weights
      INTEGERS (32 rows)  result: the integers, as floats from 0 to 255 (what ggml keeps in a byte)
      COMMON   (1 row)    result: the scale
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from quantrecipe.core.jit import kernel
from quantrecipe.core.lanes import LANES, nearest_int, select
from quantrecipe.core.scalars import F32, I32, ONE, ZERO, Float, Floats, Int

__all__ = ["COMMON", "COUNTS", "IN", "INTEGERS", "TABLE", "make_qp_quants"]

EPSILON = F32(1e-15)  # ggml: GROUP_MAX_EPS
STEP = F32(0.1)
ROUNDS = 5

IN = 0
COUNTS = 32 * LANES
INTEGERS = 64 * LANES
COMMON, TOP, ISCALE, BEST, SXL, SL2, ERROR, MOVED = ((96 + i) * LANES for i in range(8))
TABLE = 104 * LANES


@kernel
def in_a_byte(integer: Int) -> Float:
    """An int32 as ggml's byte keeps it, as float32."""
    return F32(I32(integer & I32(0xFF)))


@cache
def make_qp_quants(n: int, nmax: int) -> Callable[..., None]:
    """The kernel search(t): fill INTEGERS and COMMON of a table from its IN and COUNTS, n numbers in each lane."""
    top = F32(nmax)
    last = I32(nmax)

    @kernel
    def search(t: Floats) -> None:
        for j in range(LANES):
            t[TOP + j] = ZERO
        for i in range(n):
            for j in range(LANES):
                t[TOP + j] = select(t[TOP + j] > t[IN + i * LANES + j], t[TOP + j], t[IN + i * LANES + j])

        # The quotient as it is, then eight around it.
        for j in range(LANES):
            t[ISCALE + j] = top / t[TOP + j]
            t[BEST + j] = ZERO
        for i in range(n):
            for j in range(LANES):
                x = t[IN + i * LANES + j]
                scale = ONE / t[ISCALE + j]
                d = x - scale * in_a_byte(nearest_int(t[ISCALE + j] * x))
                t[BEST + j] += t[COUNTS + i * LANES + j] * d * d
        for step in range(-4, 5):
            if step != 0:
                wanted = STEP * F32(step) + top
                for j in range(LANES):
                    t[ERROR + j] = ZERO
                for i in range(n):
                    for j in range(LANES):
                        x = t[IN + i * LANES + j]
                        iscale = wanted / t[TOP + j]
                        scale = ONE / iscale
                        q = nearest_int(iscale * x)
                        q = select(q < last, q, last)
                        d = x - scale * F32(q)
                        t[ERROR + j] += t[COUNTS + i * LANES + j] * d * d
                for j in range(LANES):
                    better = t[ERROR + j] < t[BEST + j]
                    t[BEST + j] = select(better, t[ERROR + j], t[BEST + j])
                    t[ISCALE + j] = select(better, wanted / t[TOP + j], t[ISCALE + j])

        for j in range(LANES):
            t[SXL + j] = ZERO
            t[SL2 + j] = ZERO
        for i in range(n):
            for j in range(LANES):
                x = t[IN + i * LANES + j]
                w = t[COUNTS + i * LANES + j]
                q = nearest_int(t[ISCALE + j] * x)
                q = select(q < last, q, last)
                t[INTEGERS + i * LANES + j] = in_a_byte(q)
                t[SXL + j] += w * x * F32(q)
                t[SL2 + j] += w * F32(q) * F32(q)

        # Move single integers while that raises the share of the numbers that is caught, sxl² / sl2.
        for _ in range(ROUNDS):
            for j in range(LANES):
                t[MOVED + j] = ZERO
            for i in range(n):
                for j in range(LANES):
                    x = t[IN + i * LANES + j]
                    w = t[COUNTS + i * LANES + j]
                    old = t[INTEGERS + i * LANES + j]
                    sxl = t[SXL + j] - w * x * old
                    sl2 = t[SL2 + j] - w * old * old
                    q = nearest_int(x * sl2 / sxl)
                    q = select(q < last, q, last)
                    new = F32(q)
                    new_sxl = sxl + w * x * new
                    new_sl2 = sl2 + w * new * new
                    gain = new_sxl * new_sxl * t[SL2 + j] > t[SXL + j] * t[SXL + j] * new_sl2
                    move = (sxl > ZERO) & (sl2 > ZERO) & (new != old) & gain
                    t[INTEGERS + i * LANES + j] = select(move, in_a_byte(q), old)
                    t[SXL + j] = select(move, new_sxl, t[SXL + j])
                    t[SL2 + j] = select(move, new_sl2, t[SL2 + j])
                    t[MOVED + j] = select(move, ONE, t[MOVED + j])
            moved = ZERO
            for j in range(LANES):
                moved += t[MOVED + j]
            if moved == ZERO:
                break

        for j in range(LANES):
            scale = select(t[SL2 + j] > ZERO, t[SXL + j] / t[SL2 + j], ZERO)
            t[COMMON + j] = select(t[TOP + j] < EPSILON, ZERO, scale)
        for i in range(n):
            for j in range(LANES):
                t[INTEGERS + i * LANES + j] = select(t[TOP + j] < EPSILON, ZERO, t[INTEGERS + i * LANES + j])

    return search
