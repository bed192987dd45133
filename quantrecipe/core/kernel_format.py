"""KernelFormat: a format that is a spec and two or three kernels, which is what nearly every format is.

    class Q8_0(KernelFormat):
        spec = FormatSpec(name="Q8_0", ...)
        kernels = Kernels(encode=_encode, decode=_decode)

A format with something of its own beside them, such as NVFP4's factor, overrides what `QuantFormat` has for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from quantrecipe.api import FormatSpec, Grid, PointGrid, QuantFormat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["GridKernels", "KernelFormat", "Kernels", "PointKernels"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GridKernels:
    """The second half of encoding, by kernels (see `quantrecipe.api.Grid`).

    values: what the choices 0, 1, 2, … stand for
    group:  weights with a common scale and offset
    scales: (data, scales, offsets): fill the last two, float32 (n, k / group), from uint8 (n, row_bytes)
    shifts: (data, shifts): the same of what groups add to the values; None where nothing is
    put:    (choices, data): uint8 (n, k) into uint8 (n, row_bytes), in which all else stays
    steps:  the lowest and the highest integer that a group's scale is stored as; None where there are none
    lows:   the same of its offset
    put_steps: (steps, lows, data): int16 (n, k / group) into uint8 (n, row_bytes), in which all else stays
    fours:  places in a group of weights of which an even number has odd values; () where weights are free
    odd:    for each value, whether it is odd; () where weights are free
    """

    values: tuple[float, ...]
    group: int
    scales: Callable[[Any, Any, Any], None]
    shifts: Callable[[Any, Any], None] | None = None
    put: Callable[[Any, Any], None]
    steps: tuple[int, int] | None = None
    lows: tuple[int, int] | None = None
    put_steps: Callable[[Any, Any, Any], None] | None = None
    fours: tuple[tuple[int, int, int, int], ...] = ()
    odd: tuple[bool, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PointKernels:
    """The same where several weights are one choice (see `quantrecipe.api.PointGrid`).

    points: called for them when they are needed
    scales: (data, scales): fill float32 (n, k / group)
    shifts: the same of what is added to signed points; None where nothing is
    put:    (choices, signs, data): uint16 (n, k / size) and uint8 (n, k / 8) into uint8 (n, row_bytes)
    books:  how many books the points are
    books_of: (data, books): fill uint8 (n, k / group) with the book of each group; None where there is one
    """

    points: Callable[[], NDArray[np.float32]]
    group: int
    even: bool = False
    signed: bool = False
    scales: Callable[[Any, Any], None]
    shifts: Callable[[Any, Any], None] | None = None
    put: Callable[[Any, Any, Any], None]
    books: int = 1
    books_of: Callable[[Any, Any], None] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernels:
    """What encodes and decodes a format's rows. The arrays are plain (see `encode_rows`), the last one is filled.

    encode:          (rows, out), without importance; None where the format needs one
    encode_weighted: (rows, importance, out); None where importance has no effect
    decode:          (data, rows)
    grid:            the second half of encoding; None where it isn't offered
    """

    encode: Callable[[Any, Any], None] | None = None
    encode_weighted: Callable[[Any, Any, Any], None] | None = None
    decode: Callable[[Any, Any], None]
    grid: GridKernels | PointKernels | None = None


class KernelFormat(QuantFormat):
    """A format whose work is done by kernels. A subclass defines `spec` and `kernels`."""

    kernels: ClassVar[Kernels]

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        from quantrecipe.core.checked_rows import (
            encode_rows,  # a plan, which encodes nothing, doesn't need it
        )

        return encode_rows(
            self.spec, rows, importance, out, plain=self.kernels.encode, weighted=self.kernels.encode_weighted
        )

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        from quantrecipe.core.checked_rows import decode_rows

        return decode_rows(self.spec, data, k, out, self.kernels.decode)

    @property
    def grid(self) -> Grid | PointGrid | None:
        kernels = self.kernels.grid
        if kernels is None:
            return None
        if isinstance(kernels, PointKernels):
            return _KernelPoints(self.spec, kernels)
        return _KernelGrid(self.spec, kernels)


class _KernelGrid(Grid):
    """The grid of a format whose work is done by kernels."""

    def __init__(self, spec: FormatSpec, kernels: GridKernels) -> None:
        self.values, self.group = kernels.values, kernels.group
        self.steps, self.lows = kernels.steps, kernels.lows
        self.fours, self.odd = kernels.fours, kernels.odd
        self._spec, self._kernels = spec, kernels

    def scales(self, data: ByteArray, k: int) -> tuple[FloatArray, FloatArray]:
        from quantrecipe.core.checked_rows import grid_scales

        return grid_scales(self._spec, data, k, self.group, self._kernels.scales)

    def shifts(self, data: ByteArray, k: int) -> FloatArray | None:
        return _shifts(self._spec, self._kernels, data, k)

    def store(self, data: ByteArray, choices: ByteArray) -> None:
        from quantrecipe.core.checked_rows import store_choices

        store_choices(self._spec, data, choices, self._kernels)

    def store_steps(self, data: ByteArray, steps: NDArray[np.int16], lows: NDArray[np.int16] | None) -> None:
        from quantrecipe.core.checked_rows import store_steps

        if self.steps is None or self._kernels.put_steps is None:
            super().store_steps(data, steps, lows)
            return
        store_steps(
            self._spec, data, (steps, lows), (self.steps, self.lows), self.group, self._kernels.put_steps
        )


class _KernelPoints(PointGrid):
    """The same, of points."""

    def __init__(self, spec: FormatSpec, kernels: PointKernels) -> None:
        self.points, self.group = kernels.points(), kernels.group
        self.even, self.signed, self.books = kernels.even, kernels.signed, kernels.books
        self._spec, self._kernels = spec, kernels

    def scales(self, data: ByteArray, k: int) -> FloatArray:
        from quantrecipe.core.checked_rows import point_scales

        return point_scales(self._spec, data, k, self.group, self._kernels.scales)

    def shifts(self, data: ByteArray, k: int) -> FloatArray | None:
        return _shifts(self._spec, self._kernels, data, k)

    def books_of(self, data: ByteArray, k: int) -> ByteArray | None:
        from quantrecipe.core.checked_rows import point_books

        kernel = self._kernels.books_of
        return None if kernel is None else point_books(self._spec, data, k, self.group, kernel)

    def store(self, data: ByteArray, choices: NDArray[np.uint16], signs: ByteArray) -> None:
        from quantrecipe.core.checked_rows import store_points

        count, size = self.points.shape
        store_points(self._spec, data, choices, signs, (count // self.books, size), self._kernels.put)


def _shifts(
    spec: FormatSpec, kernels: GridKernels | PointKernels, data: ByteArray, k: int
) -> FloatArray | None:
    from quantrecipe.core.checked_rows import point_scales

    return None if kernels.shifts is None else point_scales(spec, data, k, kernels.group, kernels.shifts)
