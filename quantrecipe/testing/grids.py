"""The second half of encoding: what a grid says of the bytes, and what it stores in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from quantrecipe.api import Grid, PointGrid, QuantFormat
from quantrecipe.errors import FormatError
from quantrecipe.testing.failure import require, same_bytes, same_values
from quantrecipe.testing.sample import distributions, importance_for

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["check_grid"]

_MOST_VALUES = 256
"""Choices are bytes."""
_MOST_POINTS = 1 << 16
"""Choices of points are uint16."""
_MOST_PAIRS = 4096
"""All pairs are tried."""
_LONGEST = 256
"""Descent goes over so many columns together, and a four lies in them as a whole."""
_COMPARED = 1 << 26
"""Of many points, only so many rows are stored again that this many of them are compared with a point each."""
ZERO = np.float32(0)
"""Added to floats that are compared bit by bit: it makes 0 of -0."""


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
    _check_fours(grid)
    rng = np.random.default_rng(seed)
    for name, rows in distributions(fmt, seed):
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
            _make_even(grid, choices)
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
        _check_refusal(grid, data.copy(), choices)

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


def _check_fours(grid: Grid) -> None:
    """They have each weight of a group once, and some values are odd, others even."""
    if not grid.fours and not grid.odd:
        return
    places = sorted(place for four in grid.fours for place in four)
    require(
        places == list(range(grid.group)) and grid.group <= _LONGEST,
        f"fours have each place of a group of at most {_LONGEST} once, and these have {places}",
    )
    require(
        len(grid.odd) == len(grid.values) and len(set(grid.odd)) == 2,
        "with fours, some of the values are odd, and others are even",
    )


def _make_even(grid: Grid, choices: ByteArray) -> None:
    """Where a four has an odd number of odd values, its first weight takes another one."""
    odd, other = np.array(grid.odd), np.zeros(len(grid.values), np.uint8)
    for four in grid.fours:
        groups = choices.reshape(-1, grid.group)
        other[odd], other[~odd] = np.flatnonzero(~odd)[0], np.flatnonzero(odd)[-1]
        wrong = odd[groups[:, list(four)]].sum(axis=1) % 2 == 1
        groups[wrong, four[0]] = other[groups[wrong, four[0]]]


def _check_refusal(grid: Grid, data: ByteArray, choices: ByteArray) -> None:
    """A four with an odd number of odd values is no choice that can be stored."""
    if not grid.fours:
        return
    wrong, odd, place = choices.copy(), np.array(grid.odd), grid.fours[-1][2]
    wrong[-1, place] = np.flatnonzero(odd != odd[wrong[-1, place]])[0]
    try:
        grid.store(data, wrong)
    except FormatError:
        return
    require(False, "store() takes a four with an odd number of odd values; it should be a FormatError")


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
    spec, (whole, size) = fmt.spec, grid.points.shape
    require(
        size in (2, 4, 8) and grid.books >= 1 and whole % grid.books == 0,
        f"points have 2, 4 or 8 weights, and these {size}; {whole} points make {grid.books} books",
    )
    count = whole // grid.books
    require(1 <= count <= _MOST_POINTS, f"books have 1 to {_MOST_POINTS} points, and these {count}")
    require(
        size > 2 or (whole <= _MOST_PAIRS and grid.books == 1),
        f"of pairs there are at most {_MOST_PAIRS}, in a book",
    )
    require(
        grid.points.dtype == np.float32 and (grid.signed or bool((grid.points >= 0).all())),
        "points are float32, and none is negative where they aren't signed",
    )
    require(not (grid.signed and grid.even), "signed points have no signs beside them, even or not")
    require(
        spec.block % grid.group == 0 and grid.group % 8 == 0,
        f"groups of {grid.group} weights don't divide into eights, or blocks of {spec.block} not into them",
    )
    rng, each = np.random.default_rng(seed), grid.group // size
    books = grid.points.reshape(grid.books, count, size)
    for name, rows in distributions(fmt, seed):
        (n, k), importance = rows.shape, importance_for(fmt, rows.shape[1], seed)
        data = fmt.encode(rows, importance)
        kept = data.copy()
        scales = grid.scales(data, k)
        require(
            scales.shape == (n, k // grid.group) and scales.dtype == np.float32,
            f"scales must be float32 {(n, k // grid.group)}, and are {scales.dtype} {scales.shape}",
        )
        wide = np.repeat(scales, grid.group, axis=1)
        shifts, taken = grid.shifts(data, k), grid.books_of(data, k)
        same_bytes(
            spec, data, kept, "the data after scales() and its like (they must not change their input)"
        )
        require(grid.signed or shifts is None, "only signed points are shifted")
        require(
            taken is None
            or (taken.shape == scales.shape and taken.dtype == np.uint8 and taken.max() < grid.books),
            f"books_of() must be uint8 {scales.shape}, below {grid.books}",
        )
        added = np.zeros_like(wide) if shifts is None else np.repeat(shifts, grid.group, axis=1)
        book = np.zeros((n, k // size), np.uint8) if taken is None else np.repeat(taken, each, axis=1)
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
                wide * (books[book, choices].reshape(n, k) + added) * sign + ZERO,
                what,
            )
            for what, was, is_ in (
                ("scales", scales, grid.scales(data, k)),
                ("shifts", shifts, grid.shifts(data, k)),
                ("books", taken, grid.books_of(data, k)),
            ):
                require(
                    was is None or (is_ is not None and np.array_equal(is_, was)),
                    f"the {what} of {name} rows change in store()",
                )
        if not (scales != 0).all():
            continue
        # What encode chose, read off what its bytes decode to.
        some = max(_COMPARED // (count * k // size), 1)
        wanted, wide, added = (it[:some] for it in (fmt.decode(kept, k), wide, added))
        sizes = (wanted / wide - added if grid.signed else np.abs(wanted / wide)).reshape(-1, size)
        own, its = np.empty(len(sizes), np.uint16), book[:some].reshape(-1)
        for number, points in enumerate(books.astype(np.float64)):
            squares, mine = np.square(points).sum(axis=1), np.flatnonzero(its == number)
            for part in np.array_split(mine, -(-len(mine) // 64)) if len(mine) else []:
                own[part] = (squares - 2 * sizes[part] @ points.T).argmin(axis=1)
        bits = np.packbits(np.signbit(wanted).reshape(-1, k // 8, 8), axis=2, bitorder="little")[..., 0]
        again = data[:some].copy()
        grid.store(again, own.reshape(-1, k // size), bits * np.uint8(not grid.signed))
        what = f"{name} rows, stored again with their own scales"
        same_values(spec, fmt.decode(again, k) + ZERO, wanted + ZERO, what)
        if all(len(np.unique(points, axis=0)) == count for points in books):
            same_bytes(spec, again, kept[:some], what)
