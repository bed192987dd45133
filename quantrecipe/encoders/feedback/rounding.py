"""Columns rounded in order, each error carried on to the later columns of its block.

Arrays have a row for each column of weights, with as many rows of weights side by side as there are: w[c, r].

    target  w_j + Σ_{i<j} R_i N_ij: what column j should come close to (see `factor.py`), as far as earlier columns are
            rounded already
    values  what a weight may be is scale * (value + shift) + offset, where each operation is rounded, as decoders do
            it; most formats have no shift, which is 0 then and changes nothing

Within a block, a few columns at a time pass their errors to each other; what comes after takes these as a product.
"""

from __future__ import annotations

from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import nearest, select
from quantrecipe.core.scalars import F32, ONE, U8, ZERO, Bytes, Float, Floats, Int, Ints
from quantrecipe.encoders.feedback.products import add_down, fma, where

__all__ = ["carry_on", "choose", "round_block", "settle"]

STEP = 16
"""Columns that pass their errors to each other one by one."""


@kernel
def choose(
    x: Float, scale: Float, offset: Float, shift: Float, values: Floats, halfway: Floats, even: Int
) -> Int:
    """Which of the values, in ascending order, comes nearest to x. even: they are whole numbers without gaps."""
    t = (x - offset) / scale - shift if scale != ZERO else ZERO
    if even:
        # Whatever is no number, or beyond them all, becomes the first or the last.
        t = t - values[0]
        t = select(t > ZERO, t, ZERO)
        last = F32(values.size - 1)
        return U8(nearest(select(t < last, t, last)))
    found = U8(0)
    for i in range(halfway.size):
        found = U8(found + U8(t > halfway[i]))
    return found


@disjoint_kernel
def _round_even(
    target: Floats, w: Floats, scale: Floats, offset: Floats, shift: Floats, values: Floats,
    choices: Bytes, left: Floats, missed: Floats,
) -> None:  # fmt: skip
    first, last = values[0], F32(values.size - 1)
    for r in range(target.size):
        per_scale = select(scale[r] != ZERO, ONE / scale[r], ZERO)
        t = (target[r] - offset[r]) * per_scale - shift[r] - first
        t = select(t > ZERO, t, ZERO)
        q = nearest(select(t < last, t, last))
        value = scale[r] * (q + first + shift[r]) + offset[r]
        choices[r] = U8(q)
        left[r], missed[r] = w[r] - value, target[r] - value


@disjoint_kernel
def _round_uneven(
    target: Floats, w: Floats, scale: Floats, offset: Floats, shift: Floats, values: Floats, halfway: Floats,
    choices: Bytes, left: Floats, missed: Floats,
) -> None:  # fmt: skip
    for r in range(target.size):
        left[r] = select(scale[r] != ZERO, (target[r] - offset[r]) / scale[r] - shift[r], ZERO)
        missed[r] = values[0]
        choices[r] = U8(0)
    for i in range(halfway.size):
        bound, above = halfway[i], values[i + 1]
        for r in range(target.size):
            higher = left[r] > bound
            missed[r] = select(higher, above, missed[r])
            choices[r] = select(higher, U8(i + 1), choices[r])
    for r in range(target.size):
        value = scale[r] * (missed[r] + shift[r]) + offset[r]
        left[r], missed[r] = w[r] - value, target[r] - value


@disjoint_kernel
def _add(factor: Float, x: Floats, y: Floats) -> None:
    for r in range(x.size):
        y[r] = fma(factor, x[r], y[r])


@kernel(
    "void(float32[::1], int64, int64[::1], float32[:,::1], float32[:,::1], float32[:,::1], float32[:,::1], "
    "float32[:,::1], float32[::1], float32[::1], int64, uint8[:,::1], float32[:,::1], float32[:,::1])"
)
def round_block(
    unit: Floats, first: Int, groups: Ints, target: Floats, w: Floats, scales: Floats, offsets: Floats, shifts: Floats,
    values: Floats, halfway: Floats, even: Int, choices: Bytes, left: Floats, missed: Floats,
) -> None:  # fmt: skip
    """Choose values for the columns of a block, whose number in the matrix is first, first + 1, …

    unit:    N, in strips
    groups:  of each column, its group's number: int64 (b,)
    target, w: float32 (b, n); the block's targets are changed on the way
    scales, offsets, shifts: float32 (groups, n)
    → choices (b, n): numbers of `values`; left: w minus what was chosen; missed: target minus what was chosen
    """
    size = w.shape[0]
    for start in range(0, size, STEP):
        end = min(start + STEP, size)
        for c in range(start, end):
            g = groups[c]
            if even:
                _round_even(
                    target[c], w[c], scales[g], offsets[g], shifts[g], values, choices[c], left[c], missed[c]
                )
            else:
                _round_uneven(
                    target[c],
                    w[c],
                    scales[g],
                    offsets[g],
                    shifts[g],
                    values,
                    halfway,
                    choices[c],
                    left[c],
                    missed[c],
                )
            for later in range(c + 1, end):
                _add(unit[where(first + c, first + later)], left[c], target[later])
        if end < size:
            add_down(unit, first + start, left[start:end], first + end, target[end:])


@disjoint_kernel
def _leave(target: Floats, w: Floats, left: Floats) -> None:
    for r in range(target.size):
        left[r] = w[r] - target[r]


@kernel("void(float32[::1], int64, float32[:,::1], float32[:,::1], float32[:,::1])")
def settle(unit: Floats, first: Int, target: Floats, w: Floats, left: Floats) -> None:
    """What the weights of a block were best, were there no grid: the targets of its columns, each met exactly.

    This is what scales have to suit. target (b, n) becomes that; the rest as in `round_block`.
    """
    size = w.shape[0]
    for start in range(0, size, STEP):
        end = min(start + STEP, size)
        for c in range(start, end):
            _leave(target[c], w[c], left[c])
            for later in range(c + 1, end):
                _add(unit[where(first + c, first + later)], left[c], target[later])
        if end < size:
            add_down(unit, first + start, left[start:end], first + end, target[end:])


@kernel("void(float32[::1], int64, int64, float32[:,::1], float32[:,::1])")
def carry_on(unit: Floats, first: Int, to: Int, left: Floats, target: Floats) -> None:
    """What the columns first, first + 1, … left over, added to the targets of the columns from `to` on."""
    add_down(unit, first, left, to, target)
