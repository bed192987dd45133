"""The best scale for groups of 32 weights in fours of even parity: see `even_parity.py`.

ik_llama.cpp: quantize_row_iq4_kss_impl. As in `value_search.py`, but every try is made even before it is measured.
Where a try turns the sign of the scale, the reference still looks for rivals with the old one; so it is here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from quantrecipe.core import kernel
from quantrecipe.core.bits import place
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.lanes import LANES, WT, X, find_peaks, lane_row, select
from quantrecipe.core.scalars import F32, ONE, ZERO, Float, Floats, Int

from quantrecipe_ik.core.even_parity import is_odd, rival_of
from quantrecipe_ik.core.value_tables import FOUR_BITS

__all__ = ["FOURS", "GROUP", "position", "search_even"]

THREE = F32(3)
EPSILON = F32(1e-16)
TRIES = 7

GROUP = 32
FOURS = GROUP // 4
SCALE, PEAK, SIZE, BEST, ISCALE, TRIED, SXL, SL2 = (lane_row(i) for i in range(8))
# members: four rows of LANES of each
VALUE, RIVAL, LOSS, ODD = (row * LANES for row in (0, 4, 8, 12))
MEMBERS = 16 * LANES


@kernel
def position(four: Int, member: Int) -> Int:
    """Which weight of a group is this member (0 to 3) of a four (0 to 7)."""
    return 2 * four + member // 2 + GROUP // 2 * (member % 2)


@cache
def _fit(values: tuple[int, ...]) -> Callable[..., None]:
    """The kernel fit(s, sign, members): SXL and SL2 of the fours nearest to sign * ISCALE * x."""
    rival = rival_of(values)

    @disjoint_kernel
    def look(s: Floats, sign: Float, four: Int, members: Floats) -> None:
        """VALUE, RIVAL, LOSS and, as ODD, the parity of each member of a four."""
        for member in range(4):
            at, to = place(position(four, member) * LANES), place(member * LANES)
            for j in range(LANES):
                x, w = s[X + at + j], s[WT + at + j]
                index, value, _, other, loss = rival(sign * s[ISCALE + j] * x, x, w, s[TRIED + j])
                members[VALUE + to + j], members[RIVAL + to + j], members[LOSS + to + j] = value, other, loss
                members[ODD + to + j] = F32(is_odd(index))

    @kernel
    def fit(s: Floats, sign: Float, members: Floats) -> None:
        for j in range(LANES):
            s[SXL + j] = ZERO
            s[SL2 + j] = ZERO
        for four in range(FOURS):
            look(s, sign, four, members)
            _make_even(members)
            _add(s, four, members)

    return fit


@kernel
def _make_even(m: Floats) -> None:
    """Where a four has an odd number of ones, let the member that loses least by it take its rival."""
    for j in range(LANES):
        ones = m[ODD + j] + m[ODD + LANES + j] + m[ODD + 2 * LANES + j] + m[ODD + 3 * LANES + j]
        odd = (ones == ONE) | (ones == THREE)
        least, chosen = m[LOSS + j], ZERO
        for i in range(1, 4):
            loss = m[LOSS + i * LANES + j]
            chosen = select(loss < least, F32(i), chosen)
            least = select(loss < least, loss, least)
        for i in range(4):
            gives_way = odd & (chosen == F32(i))
            m[VALUE + i * LANES + j] = select(gives_way, m[RIVAL + i * LANES + j], m[VALUE + i * LANES + j])


@disjoint_kernel
def _add(s: Floats, four: Int, members: Floats) -> None:
    for member in range(4):
        at, to = place(position(four, member) * LANES), place(member * LANES)
        for j in range(LANES):
            x, w, q = s[X + at + j], s[WT + at + j], members[VALUE + to + j]
            s[SXL + j] += w * q * x
            s[SL2 + j] += w * q * q


_find_peaks = find_peaks(GROUP, PEAK, SIZE)
_first, _first_shifted = F32(FOUR_BITS.plain[0]), F32(FOUR_BITS.shifted[0])
_fit_plain, _fit_shifted = _fit(FOUR_BITS.plain), _fit(FOUR_BITS.shifted)


@kernel
def _keep_better(s: Floats) -> None:
    for j in range(LANES):
        sxl, sl2 = s[SXL + j], s[SL2 + j]
        better = (sl2 > ZERO) & (sxl * sxl > s[BEST + j] * sl2)
        scale = sxl / sl2
        s[SCALE + j] = select(better, scale, s[SCALE + j])
        s[BEST + j] = select(better, scale * sxl, s[BEST + j])


@kernel
def search_even(s: Floats, first: Int, count: Int, scales: Floats, counts: Floats, shifted: Int) -> None:
    """The scales of the groups at X, weighted by WT; as `encoders` takes it."""
    members = np.empty(MEMBERS, np.float32)
    _find_peaks(s)
    for j in range(LANES):
        s[SCALE + j] = -s[PEAK + j] / _first
        s[BEST + j] = ZERO
    for step in range(-TRIES, TRIES + 1):
        for j in range(LANES):
            s[ISCALE + j] = (F32(step) + _first) / s[PEAK + j]
            s[TRIED + j] = ONE / s[ISCALE + j]
        _fit_plain(s, ONE, members)
        _keep_better(s)
        _fit_plain(s, -ONE, members)
        _keep_better(s)
        for j in range(LANES):
            s[ISCALE + j] = (F32(step) + _first_shifted) / s[PEAK + j]
            s[TRIED + j] = ONE / s[ISCALE + j]
        _fit_shifted(s, ONE, members)
        _keep_better(s)
        _fit_shifted(s, -ONE, members)
        _keep_better(s)
    for j in range(LANES):
        s[SCALE + j] = select(s[SIZE + j] < EPSILON, ZERO, s[SCALE + j])
    for j in range(count):
        scales[first + j] = s[SCALE + j]
