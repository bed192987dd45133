"""What becomes of the weights: NaN and Inf, rows that quantizers stumble over, the stated error, importance."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from quantrecipe.api import Grid, PointGrid, QuantFormat
from quantrecipe.errors import FormatError, NonFiniteError
from quantrecipe.testing.failure import require, same_bytes, same_values
from quantrecipe.testing.sample import columns_of, importance_for, nasty_importance, nasty_rows, ordinary_rows

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = [
    "check_error_bound",
    "check_grid",
    "check_importance",
    "check_nasty_rows",
    "check_non_finite",
    "check_random_bytes",
    "check_twice",
    "check_uniform_importance",
    "check_zeros",
]

_SANE = np.float32(1e4)
"""Weights up to here decode to finite numbers in any format: float16 scales reach beyond it."""
_RUNAWAY = 16
"""Low bits with spiky importance overshoot weights that don't matter, by up to a factor of ten; more is a bug."""
_SLACK = 2.0
"""A stated bound may be this much above what is measured; a wider one says nothing."""
_HELPS = 0.9
"""With spiky importance, ggml's own types bring the weighted error down to 0.2 to 0.75 of that without."""
_MOST_VALUES = 256
"""Choices are bytes."""
_MOST_POINTS = 1 << 16
"""Choices of points are uint16."""
ZERO = np.float32(0)
"""Added to floats that are compared bit by bit: it makes 0 of -0."""
_AGAIN = 0.5
"""What encoding a second time may lose of what the first time lost: ggml's own types lose at most 0.28 of it."""


def check_non_finite(fmt: QuantFormat, seed: int = 0) -> None:
    """NaN and Inf, wherever they stand, in weights or importance, are a NonFiniteError and never a block."""
    rows = ordinary_rows(fmt, 7, seed)
    n, k = rows.shape
    importance = importance_for(fmt, k, seed)
    for value in (np.nan, np.inf, -np.inf):
        for row, column in ((0, 0), (n // 2, 5), (n - 1, k - 1)):
            bad = rows.copy()
            bad[row, column] = value
            _is_refused(fmt, bad, importance, f"{value} in row {row}, column {column}")
    if importance is not None:
        for value in (np.nan, np.inf):
            bad_importance = importance.copy()
            bad_importance[k // 2] = value
            _is_refused(fmt, rows, bad_importance, f"an importance of {value}")


def check_nasty_rows(fmt: QuantFormat, seed: int = 0) -> None:
    """Every finite row is encoded, always to the same bytes; rows of ordinary size decode to ordinary numbers."""
    rng = np.random.default_rng(seed)
    k, group = columns_of(fmt, 2), fmt.spec.rows_per_group
    for _ in range(3):
        rows = nasty_rows(rng, 24 + -24 % group, k)
        importance = None if fmt.spec.importance == "ignored" else nasty_importance(rng, k)
        data = fmt.encode(rows, importance)
        same_bytes(fmt.spec, fmt.encode(rows.copy(), importance), data, "encode of rows that are hard, again")
        back = fmt.decode(data, k)
        for row, (was, is_) in enumerate(zip(rows, back, strict=True)):
            peak = np.abs(was).max()
            if peak <= _SANE:
                where = f"row {row}, whose largest weight is {peak}, decodes to"
                require(np.isfinite(is_).all(), f"{where} something that isn't finite")
                largest = np.abs(is_).max()
                require(largest <= _RUNAWAY * max(peak, np.float32(1e-6)), f"{where} as much as {largest}")


def check_zeros(fmt: QuantFormat, seed: int = 0) -> None:
    """Rows of zeros, which padding and unused experts have, stay zero."""
    group = fmt.spec.rows_per_group
    rows = ordinary_rows(fmt, 2 * group, seed)
    rows[:group] = 0
    back = fmt.decode(fmt.encode(rows, importance_for(fmt, rows.shape[1], seed)), rows.shape[1])
    for row, column in np.argwhere(back[:group] != 0)[:1]:
        require(False, f"row {row} is all zeros, and decodes to {back[row, column]} in column {column}")


def check_random_bytes(fmt: QuantFormat, seed: int = 0) -> None:
    """Bytes from a damaged file decode to something, always the same, and never crash."""
    rng = np.random.default_rng(seed)
    k = columns_of(fmt)
    shape = (16 + -16 % fmt.spec.rows_per_group, fmt.spec.row_bytes(k))
    random = rng.integers(0, 256, shape, dtype=np.uint8)
    for name, data in (
        ("random bytes", random),
        ("zero bytes", np.zeros(shape, np.uint8)),
        ("bytes of 0xff", np.full(shape, 0xFF, np.uint8)),
    ):
        before = data.copy()
        try:
            with np.errstate(all="ignore"):
                back, again = fmt.decode(data, k), fmt.decode(data, k)
        except Exception as error:  # noqa: BLE001  # whatever a plugin raises is the finding
            require(False, f"decode of {name} raises {type(error).__name__}: {error}")
        same_values(fmt.spec, again, back, f"decode of {name}, again")
        same_bytes(fmt.spec, data, before, f"the {name} after decode (it must not change its input)")


def check_error_bound(fmt: QuantFormat, seed: int = 0) -> None:
    """On Gaussian and on Laplace rows the relative RMSE is at most `error_bound`, and at least half of it."""
    bound = fmt.spec.error_bound
    errors = {name: _relative_rmse(fmt, rows) for name, rows in _distributions(fmt, seed)}
    for name, error in errors.items():
        require(
            error <= bound, f"the relative RMSE of {name} rows is {error:.4g}, above error_bound {bound:.4g}"
        )
    largest = max(errors.values())
    require(
        largest >= bound / _SLACK,
        f"error_bound is {bound:.4g}, and {largest:.4g} was measured: a bound so wide says nothing",
    )


def check_twice(fmt: QuantFormat, seed: int = 0) -> None:
    """What was decoded is nearly on the format's own grid: encoded again, it loses much less than the first time."""
    for name, rows in _distributions(fmt, seed):
        k = rows.shape[1]
        importance = np.ones(k, np.float32) if fmt.spec.importance == "required" else None
        once = fmt.decode(fmt.encode(rows, importance), k)
        again = fmt.decode(fmt.encode(once, importance), k)
        first, second = float(np.linalg.norm(rows - once)), float(np.linalg.norm(once - again))
        require(
            second <= _AGAIN * first,
            f"{name} rows, decoded and encoded again, lose {second / first if first else 1:.0%} of what they lost "
            "at first: encode and decode don't agree on the values",
        )


def check_importance(fmt: QuantFormat, seed: int = 0) -> None:
    """Importance does what the spec's level says: nothing, or a smaller weighted error; required is required."""
    spec = fmt.spec
    rows = ordinary_rows(fmt, 64, seed)
    k = rows.shape[1]
    weights = np.random.default_rng(seed + 1).exponential(1.0, (k,)).astype(np.float32) ** 3
    if spec.importance == "required":
        try:
            fmt.encode(rows)
        except FormatError:
            return
        require(False, "importance is declared as required, and encode goes without")
    plain, weighted = fmt.encode(rows), fmt.encode(rows, weights)
    if spec.importance == "ignored":
        same_bytes(spec, weighted, plain, "encode with importance, which is declared as ignored")
        return
    require(
        not np.array_equal(plain, weighted),
        f"importance is declared as {spec.importance}, and changes nothing: declare it as ignored",
    )
    losses = [
        float((weights * np.square(rows - fmt.decode(data, k), dtype=np.float64)).sum())
        for data in (plain, weighted)
    ]
    require(
        losses[1] <= _HELPS * losses[0],
        f"with importance, the weighted error is {losses[1] / losses[0]:.2f} of that without it, "
        "and should be clearly less",
    )


def check_uniform_importance(fmt: QuantFormat, seed: int = 0) -> None:
    """Where `uniform_is_none` is declared, equal importance for all columns gives the bytes of none."""
    if not fmt.spec.uniform_is_none:
        return
    rows = ordinary_rows(fmt, 12, seed)
    for size in (1.0, 2.0**-5, 2.0**9):  # powers of two: sums of products scale without rounding
        uniform = np.full(rows.shape[1], size, np.float32)
        same_bytes(
            fmt.spec, fmt.encode(rows, uniform), fmt.encode(rows), f"encode with an importance of {size}"
        )


def check_grid(fmt: QuantFormat, seed: int = 0) -> None:
    """Of a format with a grid: any choices are stored as it says, scales stay, and encode's own give its bytes.

    So are the integers of scales, where they can be set.
    """
    grid, spec = fmt.grid, fmt.spec
    if grid is None:
        return
    if isinstance(grid, PointGrid):
        _check_points(fmt, grid, seed)
        return
    values = np.asarray(grid.values, np.float32)
    require(
        1 <= len(values) <= _MOST_VALUES, f"a grid has 1 to {_MOST_VALUES} values, and this one {len(values)}"
    )
    require(spec.block % grid.group == 0, f"blocks of {spec.block} don't divide into groups of {grid.group}")
    rng = np.random.default_rng(seed)
    for name, rows in _distributions(fmt, seed):
        k = rows.shape[1]
        data = fmt.encode(rows, importance_for(fmt, k, seed))
        kept = data.copy()
        scales, offsets = grid.scales(data, k)
        for what, array in (("scales", scales), ("offsets", offsets)):
            require(
                array.shape == (len(rows), k // grid.group) and array.dtype == np.float32,
                f"{what} must be float32 {(len(rows), k // grid.group)}, and are {array.dtype} {array.shape}",
            )
        shifts = grid.shifts(data, k)
        same_bytes(
            spec, data, kept, "the data after scales() and shifts() (they must not change their input)"
        )
        moved = np.repeat(np.zeros_like(scales) if shifts is None else shifts, grid.group, axis=1)

        def decoded(
            choices: ByteArray,
            scales: FloatArray = scales,
            offsets: FloatArray = offsets,
            moved: FloatArray = moved,
        ) -> FloatArray:
            product = np.repeat(scales, grid.group, axis=1) * (values[choices] + moved)
            return product + np.repeat(offsets, grid.group, axis=1)

        # Any choices, over others: nothing of these may be left.
        for _ in range(2):
            # At an odd address, and read-only: nothing is promised of where they lie.
            choices = np.empty(rows.size + 1, np.uint8)[1:].reshape(rows.shape)
            choices[...] = rng.integers(0, len(values), rows.shape, dtype=np.uint8)
            choices.flags.writeable = False
            grid.store(data, choices)
            what = f"decode of choices that were stored in {name} rows, beside scale * value + offset"
            same_values(spec, fmt.decode(data, k) + ZERO, decoded(choices) + ZERO, what)
            for what, was, is_ in zip(
                ("scales", "offsets"), (scales, offsets), grid.scales(data, k), strict=True
            ):
                require(np.array_equal(was, is_), f"the {what} of {name} rows aren't the same after store()")
            again = grid.shifts(data, k)
            require(
                shifts is None or (again is not None and np.array_equal(again, shifts)),
                f"the shifts of {name} rows aren't the same after store()",
            )

        _check_steps(fmt, grid, data.copy(), choices, rng)

        # What encode chose, read off what its bytes decode to.
        wanted, own = fmt.decode(kept, k), np.zeros(rows.shape, np.uint8)
        best = np.full(rows.shape, np.inf, np.float32)
        for choice in range(len(values)):
            away = np.abs(decoded(np.full(rows.shape, choice, np.uint8)) - wanted)
            own[away < best] = choice
            best = np.minimum(best, away)
        grid.store(data, own)
        same_values(
            spec, fmt.decode(data, k) + ZERO, wanted + ZERO, f"{name} rows, stored again with own scales"
        )
        if (scales != 0).all() and len(np.unique(values)) == len(values):
            same_bytes(spec, data, kept, f"{name} rows, stored again with their own scales")


def _check_steps(
    fmt: QuantFormat, grid: Grid, data: ByteArray, choices: ByteArray, rng: np.random.Generator
) -> None:
    """Any integers of scales and offsets are stored: products with the block's floats; floats and choices stay."""
    if grid.steps is None:
        return
    spec, (n, k) = fmt.spec, choices.shape
    require(spec.block > grid.group, "steps are of formats with several groups in a block")
    require(
        [it.kind for it in spec.floats] == ["f16"] * (1 if grid.lows is None else 2),
        "steps are of formats with an f16 in each block for them, and another one for lows",
    )
    values = np.asarray(grid.values, np.float32)

    def floats() -> list[FloatArray]:
        blocks = data.reshape(n, k // spec.block, spec.block_bytes)
        halves = [
            np.ascontiguousarray(blocks[..., cast(int, it.at) :][..., :2]).view("<f2") for it in spec.floats
        ]
        return [np.repeat(it[..., 0].astype(np.float32), spec.block // grid.group, axis=1) for it in halves]

    kept = floats()
    # Twice, over others: nothing of these may be left.
    for _ in range(2):
        steps = rng.integers(grid.steps[0], grid.steps[1] + 1, kept[0].shape, dtype=np.int16)
        lows = None
        offsets = np.zeros_like(kept[0])
        if grid.lows is not None:
            lows = rng.integers(grid.lows[0], grid.lows[1] + 1, kept[0].shape, dtype=np.int16)
            offsets = -(kept[1] * lows.astype(np.float32))
        grid.store_steps(data, steps, lows)
        scales = kept[0] * steps.astype(np.float32)
        require(all(map(np.array_equal, floats(), kept)), "store_steps() changes the floats of blocks")
        for what, wanted, found in zip(
            ("scales", "offsets"), (scales, offsets), grid.scales(data, k), strict=True
        ):
            require(
                np.array_equal(wanted, found), f"the {what} aren't the block's float times what was stored"
            )
        wide = [np.repeat(it, grid.group, axis=1) for it in (scales, offsets)]
        same_values(
            spec, fmt.decode(data, k) + ZERO, wide[0] * values[choices] + wide[1] + ZERO,
            "decode after store_steps(), beside the choices that were there",
        )  # fmt: skip


def _check_points(fmt: QuantFormat, grid: PointGrid, seed: int) -> None:
    """Of a grid of points: any choices and signs are stored, the scales stay, and encode's own give its bytes."""
    spec, (count, size) = fmt.spec, grid.points.shape
    require(size in (4, 8) and 1 <= count <= _MOST_POINTS, f"points have 4 or 8 weights, and these {size}")
    require(
        grid.points.dtype == np.float32 and (grid.signed or bool((grid.points >= 0).all())),
        "points are float32, and none is negative where they aren't signed",
    )
    require(not (grid.signed and grid.even), "signed points have no signs beside them, even or not")
    require(
        spec.block % grid.group == 0 and grid.group % 8 == 0,
        f"groups of {grid.group} weights don't divide into eights, or blocks of {spec.block} not into them",
    )
    rng = np.random.default_rng(seed)
    for name, rows in _distributions(fmt, seed):
        (n, k), importance = rows.shape, importance_for(fmt, rows.shape[1], seed)
        data = fmt.encode(rows, importance)
        kept = data.copy()
        scales = grid.scales(data, k)
        require(
            scales.shape == (n, k // grid.group) and scales.dtype == np.float32,
            f"scales must be float32 {(n, k // grid.group)}, and are {scales.dtype} {scales.shape}",
        )
        same_bytes(spec, data, kept, "the data after scales() (it must not change its input)")
        wide = np.repeat(scales, grid.group, axis=1)
        shifts = grid.shifts(data, k)
        require(grid.signed or shifts is None, "only signed points are shifted")
        added = np.zeros_like(wide) if shifts is None else np.repeat(shifts, grid.group, axis=1)
        for _ in range(2):
            choices = rng.integers(0, count, (n, k // size), dtype=np.uint16)
            negative = rng.integers(0, 1 if grid.signed else 2, (n, k // 8, 8), dtype=np.uint8)
            if grid.even:
                negative[..., 7] = negative[..., :7].sum(axis=2) & 1
            grid.store(data, choices, np.packbits(negative, axis=2, bitorder="little")[..., 0])
            sign = (1 - 2 * negative.astype(np.float32)).reshape(n, k)
            what = f"decode of points that were stored in {name} rows, beside scale * size * sign"
            same_values(
                spec,
                fmt.decode(data, k) + ZERO,
                wide * (grid.points[choices].reshape(n, k) + added) * sign + ZERO,
                what,
            )
            require(
                np.array_equal(grid.scales(data, k), scales), f"the scales of {name} rows change in store()"
            )
            again = grid.shifts(data, k)
            require(
                shifts is None or (again is not None and np.array_equal(again, shifts)),
                f"the shifts of {name} rows change in store()",
            )
        # What encode chose, read off what its bytes decode to.
        wanted = fmt.decode(kept, k)
        if not (scales != 0).all():
            continue
        sizes = (wanted / wide - added if grid.signed else np.abs(wanted / wide)).reshape(-1, size)
        own, points = np.empty(len(sizes), np.uint16), grid.points.astype(np.float64)
        squares = np.square(points).sum(axis=1)
        for begin in range(0, len(sizes), 512):
            part = sizes[begin : begin + 512]
            own[begin : begin + 512] = (squares - 2 * part @ points.T).argmin(axis=1)
        bits = np.packbits((wanted < 0).reshape(n, k // 8, 8), axis=2, bitorder="little")[..., 0]
        grid.store(data, own.reshape(n, k // size), bits)
        same_bytes(spec, data, kept, f"{name} rows, stored again with their own scales")


def _is_refused(fmt: QuantFormat, rows: FloatArray, importance: FloatArray | None, what: str) -> None:
    try:
        with np.errstate(all="ignore"):
            fmt.encode(rows, importance)
    except NonFiniteError:
        return
    except Exception as error:  # noqa: BLE001  # whatever a plugin raises is the finding
        require(False, f"{what} raises {type(error).__name__} ({error}); it should be a NonFiniteError")
    require(False, f"{what} is encoded; it should be a NonFiniteError")


def _distributions(fmt: QuantFormat, seed: int) -> list[tuple[str, FloatArray]]:
    rng = np.random.default_rng(seed)
    k = columns_of(fmt, max(1, 1024 // fmt.spec.block))
    shape = (32 + -32 % fmt.spec.rows_per_group, k)
    scale = np.float32(0.02)
    return [
        ("Gaussian", rng.standard_normal(shape, np.float32) * scale),
        ("Laplace", rng.laplace(size=shape).astype(np.float32) * scale),
    ]


def _relative_rmse(fmt: QuantFormat, rows: FloatArray) -> float:
    k = rows.shape[1]
    importance = np.ones(k, np.float32) if fmt.spec.importance == "required" else None
    back = fmt.decode(fmt.encode(rows, importance), k)
    return float(np.linalg.norm(rows - back) / np.linalg.norm(rows))
