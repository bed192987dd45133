"""What groups of weights lose with given scales, each weight at its nearest value.

    Σ w e² + (Σ w e x)² / Σ w x²        e = x - nearest value,  w = importance * sqrt(mean square of the row + x²)

The second term is the part of the error along the weights themselves, which counts twice so. What loses least without
it are scales that make all weights smaller, and such errors have one sign in all of a model. Large weights count more,
as ggml has it in its searches. Both were measured (docs/feedback.md).

Arrays have a row for each column of weights, with many rows of weights side by side, as in error feedback:
x[c, r] and, for groups of columns, scales[g, r]. So all of them are vectors, and each sum has the order of the columns.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import nearest, select
from quantrecipe.core.scalars import F32, ONE, U8, ZERO, Bytes, Float, Floats, Int

__all__ = ["choose_all", "differ", "lose", "moments", "weigh"]


@disjoint_kernel
def _even(
    x: Floats, scale: Floats, per_scale: Floats, offset: Floats, lowest: Float, last: Float, value: Floats
) -> None:
    for r in range(x.size):
        t = (x[r] - offset[r]) * per_scale[r] - lowest
        t = select(t > ZERO, t, ZERO)
        value[r] = nearest(select(t < last, t, last)) + lowest


@disjoint_kernel
def _uneven(
    x: Floats, per_scale: Floats, offset: Floats, values: Floats, halfway: Floats, t: Floats, value: Floats
) -> None:
    for r in range(x.size):
        t[r] = (x[r] - offset[r]) * per_scale[r]
        value[r] = values[0]
    for i in range(halfway.size):
        bound, above = halfway[i], values[i + 1]
        for r in range(x.size):
            value[r] = select(t[r] > bound, above, value[r])


@kernel
def _per(scale: Floats, per_scale: Floats) -> None:
    for r in range(scale.size):
        per_scale[r] = select(scale[r] != ZERO, ONE / scale[r], ZERO)


@disjoint_kernel
def _add_loss(
    x: Floats, weight: Floats, scale: Floats, offset: Floats, value: Floats, lost: Floats, along: Floats
) -> None:
    for r in range(x.size):
        away = x[r] - (scale[r] * value[r] + offset[r])
        counts = weight[r] * away
        lost[r] += counts * away
        along[r] += counts * x[r]


@disjoint_kernel
def _add_square(x: Floats, by: Float, sum_: Floats) -> None:
    for r in range(x.size):
        sum_[r] += x[r] * x[r] * by


@disjoint_kernel
def _weigh(x: Floats, importance: Float, even: Floats, weight: Floats, size: Floats) -> None:
    for r in range(x.size):
        weight[r] = importance * np.sqrt(even[r] + x[r] * x[r])
        size[r] += weight[r] * x[r] * x[r]


@kernel("void(float32[:,::1], float32[::1], float32[:,::1], float32[:,::1])")
def weigh(x: Floats, importance: Floats, weights: Floats, sizes: Floats) -> None:
    """How much each of x (k, n) counts, and sizes (groups, n) as `lose` takes them. importance: (k,)"""
    (k, n), groups = x.shape, sizes.shape[0]
    even, sizes[:] = np.zeros(n, np.float32), ZERO
    for c in range(k):
        _add_square(x[c], ONE / F32(k), even)
    for c in range(k):
        _weigh(x[c], importance[c], even, weights[c], sizes[c // (k // groups)])
    for g in range(groups):
        _per(sizes[g], sizes[g])


@kernel("void(float32[:,::1], float32[:,::1], float32[::1], float64[:,::1])")
def differ(x: Floats, y: Floats, importance: Floats, lost: Floats) -> None:
    """lost (blocks, n): Σ importance * (x - y)² of each block, in float64. x, y: float32 (k, n); importance: (k,)"""
    (k, n), blocks = x.shape, lost.shape[0]
    lost[:] = 0.0
    for c in range(k):
        for r in range(n):
            away = np.float64(x[c, r]) - np.float64(y[c, r])
            lost[c // (k // blocks), r] += importance[c] * away * away


@disjoint_kernel
def _add_along(along: Floats, size: Floats, lost: Floats) -> None:
    for r in range(along.size):
        lost[r] += along[r] * along[r] * size[r]


@disjoint_kernel
def _add_moments(
    x: Floats, weight: Floats, value: Floats, w: Floats, wx: Floats, wv: Floats, wvv: Floats, wxv: Floats
) -> None:
    for r in range(x.size):
        of_value = weight[r] * value[r]
        w[r] += weight[r]
        wx[r] += weight[r] * x[r]
        wv[r] += of_value
        wvv[r] += of_value * value[r]
        wxv[r] += of_value * x[r]


@kernel
def _values(
    x: Floats, scale: Floats, per_scale: Floats, offset: Floats, values: Floats, halfway: Floats, even: Int,
    t: Floats, value: Floats,
) -> None:  # fmt: skip
    if even:
        _even(x, scale, per_scale, offset, values[0], F32(values.size - 1), value)
    else:
        _uneven(x, per_scale, offset, values, halfway, t, value)


@kernel(
    "void(float32[:,::1], float32[:,::1], float32[:,::1], float32[:,::1], float32[::1], float32[::1], int64, "
    "float32[:,::1], float32[:,::1], float32[:,::1])"
)
def lose(
    x: Floats, weights: Floats, scales: Floats, offsets: Floats, values: Floats, halfway: Floats, even: Int,
    room: Floats, sizes: Floats, lost: Floats,
) -> None:  # fmt: skip
    """Σ weight * (x - nearest)² of each group.

    x, weights: float32 (k, n); scales, offsets: (groups, n)
    values:  ascending; halfway: between each two of them; even: 1 where they are whole numbers without gaps, else 0
    room:    (4, n)
    sizes:   (groups, n), 1 / Σ w x², 0 where that is 0
    → lost (groups, n)
    """
    groups = scales.shape[0]
    group, lost[:] = x.shape[0] // groups, ZERO
    for g in range(groups):
        _per(scales[g], room[0])
        room[3] = ZERO
        for c in range(g * group, (g + 1) * group):
            _values(x[c], scales[g], room[0], offsets[g], values, halfway, even, room[1], room[2])
            _add_loss(x[c], weights[c], scales[g], offsets[g], room[2], lost[g], room[3])
        _add_along(room[3], sizes[g], lost[g])


@kernel(
    "void(float32[:,::1], float32[:,::1], float32[:,::1], float32[:,::1], float32[::1], float32[::1], int64, "
    "float32[:,::1], float32[:,:,::1])"
)
def moments(
    x: Floats, weights: Floats, scales: Floats, offsets: Floats, values: Floats, halfway: Floats, even: Int,
    room: Floats, sums: Floats,
) -> None:  # fmt: skip
    """What the best scale and offset for the values that are now nearest follow from; arguments as in `lose`.

    → sums (5, groups, n): of each group Σ w, Σ w x, Σ w v, Σ w v², Σ w x v
    """
    groups = scales.shape[0]
    group, sums[:] = x.shape[0] // groups, ZERO
    for g in range(groups):
        _per(scales[g], room[0])
        for c in range(g * group, (g + 1) * group):
            _values(x[c], scales[g], room[0], offsets[g], values, halfway, even, room[1], room[2])
            _add_moments(
                x[c], weights[c], room[2], sums[0, g], sums[1, g], sums[2, g], sums[3, g], sums[4, g]
            )


@disjoint_kernel
def _number(value: Floats, halfway: Floats, choice: Bytes) -> None:
    for r in range(value.size):
        choice[r] = U8(0)
    for i in range(halfway.size):
        for r in range(value.size):
            choice[r] = select(value[r] > halfway[i], U8(i + 1), choice[r])


@kernel(
    "void(float32[:,::1], float32[:,::1], float32[:,::1], float32[::1], float32[::1], int64, float32[:,::1], "
    "uint8[:,::1])"
)
def choose_all(
    x: Floats, scales: Floats, offsets: Floats, values: Floats, halfway: Floats, even: Int, room: Floats,
    choices: Bytes,
) -> None:  # fmt: skip
    """The number of the nearest value of each weight, uint8 (k, n); arguments as in `lose`."""
    groups = scales.shape[0]
    group = x.shape[0] // groups
    for g in range(groups):
        _per(scales[g], room[0])
        for c in range(g * group, (g + 1) * group):
            _values(x[c], scales[g], room[0], offsets[g], values, halfway, even, room[1], room[2])
            _number(room[2], halfway, choices[c])
