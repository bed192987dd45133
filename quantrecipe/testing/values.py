"""What becomes of the weights: NaN and Inf, rows that quantizers stumble over, the stated error, importance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.api import QuantFormat
from quantrecipe.errors import FormatError, NonFiniteError
from quantrecipe.testing.failure import require, same_bytes, same_values
from quantrecipe.testing.sample import (
    columns_of,
    distributions,
    importance_for,
    nasty_importance,
    nasty_rows,
    ordinary_rows,
)

if TYPE_CHECKING:
    from quantrecipe.api import FloatArray

__all__ = [
    "check_error_bound",
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
    errors = {name: _relative_rmse(fmt, rows) for name, rows in distributions(fmt, seed)}
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
    for name, rows in distributions(fmt, seed):
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


def _is_refused(fmt: QuantFormat, rows: FloatArray, importance: FloatArray | None, what: str) -> None:
    try:
        with np.errstate(all="ignore"):
            fmt.encode(rows, importance)
    except NonFiniteError:
        return
    except Exception as error:  # noqa: BLE001  # whatever a plugin raises is the finding
        require(False, f"{what} raises {type(error).__name__} ({error}); it should be a NonFiniteError")
    require(False, f"{what} is encoded; it should be a NonFiniteError")


def _relative_rmse(fmt: QuantFormat, rows: FloatArray) -> float:
    k = rows.shape[1]
    importance = np.ones(k, np.float32) if fmt.spec.importance == "required" else None
    back = fmt.decode(fmt.encode(rows, importance), k)
    return float(np.linalg.norm(rows - back) / np.linalg.norm(rows))
