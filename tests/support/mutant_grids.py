"""Right grids of each kind, and those that are wrong in one thing each, with the check that finds it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from quantrecipe.api import PointGrid
from quantrecipe.errors import FormatError
from support.mutant_formats import Right, RightGrid

__all__ = [
    "GRID_MUTANTS",
    "RIGHT_GRIDS",
    "BooksBeyond",
    "FoursLeaveSome",
    "FoursOfOneKind",
    "FoursTakeAll",
    "ManyPairs",
]


class MergesChoices(Right):
    """What was stored before shows through."""

    class _Grid(RightGrid):
        def store(self, data: Any, choices: Any) -> None:
            kept = data.copy()
            super().store(data, choices)
            data |= kept

    grid = _Grid()


class StoresOverScales(Right):
    class _Grid(RightGrid):
        def store(self, data: Any, choices: Any) -> None:
            super().store(data, choices)
            data[:, 0] &= 0xFE

    grid = _Grid()


class SaysOtherValues(Right):
    class _Grid(RightGrid):
        values = tuple(range(-126, 129))

    grid = _Grid()


class SaysOtherGroups(Right):
    class _Grid(RightGrid):
        group = 24

    grid = _Grid()


class GivesDoubleScales(Right):
    class _Grid(RightGrid):
        def scales(self, data: Any, k: int) -> Any:
            return tuple(array.astype(np.float64) for array in super().scales(data, k))

    grid = _Grid()


class ScalesChangeTheData(Right):
    class _Grid(RightGrid):
        def scales(self, data: Any, k: int) -> Any:
            data[:, 5] ^= 1
            return super().scales(data, k)

    grid = _Grid()


class ForgetsChoices(Right):
    class _Grid(RightGrid):
        def store(self, data: Any, choices: Any) -> None:
            super().store(data[:1], choices[:1])

    grid = _Grid()


class ForgetsShifts(Right):
    class _Grid(RightGrid):
        def shifts(self, data: Any, k: int) -> Any:
            return np.ones_like(self.scales(data, k)[0])

    grid = _Grid()


class Pointed(Right):
    """Eights of seven bits of size in its 32 bytes: four points of eight equal sizes, and their signs."""

    class _Points(PointGrid):
        points = (np.float32([[1], [2], [3], [5]]) * np.ones(8, np.float32)).astype(np.float32)
        group = 32
        even = False

        def scales(self, data: Any, k: int) -> Any:
            return RightGrid().scales(data, k)[0]

        def store(self, data: Any, choices: Any, signs: Any) -> None:
            sizes = self.points[choices].reshape(len(data), -1)
            negative = np.unpackbits(signs, axis=1, bitorder="little").astype(bool)
            integers = np.where(negative, -sizes, sizes).astype(np.int16)
            RightGrid().store(data, (integers + 127).astype(np.uint8))

    spec = replace(Right.spec, error_bound=0.3)
    grid = _Points()

    def search(self, x: Any, w: Any) -> tuple[Any, Any]:
        scale = np.full(x.shape[:2], 0.01, np.float16)
        size = np.float32([1, 2, 3, 5])
        eights = np.abs(x.reshape(*x.shape[:2], 4, 8)).mean(axis=3) / np.float32(0.01)
        sizes = size[np.abs(eights[..., None] - size).argmin(axis=3)]
        codes = np.where(x < 0, -1, 1) * np.repeat(sizes, 8, axis=2)
        return scale, codes.astype(np.int8)


class PointsForgetSigns(Pointed):
    class _Points(Pointed._Points):  # type: ignore[name-defined]  # a class within a class
        def store(self, data: Any, choices: Any, signs: Any) -> None:
            super().store(data, choices, np.zeros_like(signs))

    grid = _Points()


class PointsChangeScales(Pointed):
    class _Points(Pointed._Points):  # type: ignore[name-defined]  # a class within a class
        def store(self, data: Any, choices: Any, signs: Any) -> None:
            super().store(data, choices, signs)
            data[:, 0] ^= 1

    grid = _Points()


class PointsOfOtherSizes(Pointed):
    class _Points(Pointed._Points):  # type: ignore[name-defined]  # a class within a class
        points = (np.float32([[1], [2], [3], [6]]) * np.ones(8, np.float32)).astype(np.float32)

        def store(self, data: Any, choices: Any, signs: Any) -> None:
            Pointed._Points().store(data, choices, signs)

    grid = _Points()


class PointsShifted(Pointed):
    class _Points(Pointed._Points):  # type: ignore[name-defined]  # a class within a class
        def shifts(self, data: Any, k: int) -> Any:
            return np.zeros((len(data), k // 32), np.float32)

    grid = _Points()


class PointsNegative(Pointed):
    class _Points(Pointed._Points):  # type: ignore[name-defined]  # a class within a class
        points = -Pointed._Points.points

    grid = _Points()


class PointsSigned(Pointed):
    """Its bytes have signs beside the points, which signed points have not."""

    class _Points(Pointed._Points):  # type: ignore[name-defined]  # a class within a class
        signed = True

    grid = _Points()


class Paired(Right):
    """Pairs with signs of their own."""

    class _Points(PointGrid):
        points = np.float32([[a, b] for a in (-1, 2, 5) for b in (-3, 1, 4)])
        group = 32
        even = False
        signed = True

        def scales(self, data: Any, k: int) -> Any:
            return RightGrid().scales(data, k)[0]

        def store(self, data: Any, choices: Any, signs: Any) -> None:
            integers = self.points[choices].reshape(len(data), -1)
            RightGrid().store(data, (integers + 127).astype(np.uint8))

    spec = replace(Right.spec, error_bound=0.9)
    grid: Any = _Points()

    def search(self, x: Any, w: Any) -> tuple[Any, Any]:
        scale = np.full(x.shape[:2], 0.01, np.float16)
        wanted = x.reshape(*x.shape[:2], 16, 1, 2) / np.float32(0.01)
        nearest = np.square(wanted - self.grid.points).sum(axis=4).argmin(axis=3)
        return scale, self.grid.points[nearest].reshape(x.shape).astype(np.int8)


class ManyPairs(Paired):
    class _Points(Paired._Points):  # type: ignore[name-defined]  # a class within a class
        points = np.repeat(Paired._Points.points, 500, axis=0)

    grid = _Points()


class Booked(Right):
    """Fours of signed points in two books: the scale's lowest bit says which one a block has."""

    class _Points(PointGrid):
        points = np.float32(
            [[a, b, 1, -1] for a in (-1, 2) for b in (-3, 1)] + [[a, 2, -2, 4] for a in (1, 3, 5, 7)]
        )
        group = 32
        even = False
        signed = True
        books = 2

        def scales(self, data: Any, k: int) -> Any:
            return RightGrid().scales(data, k)[0]

        def books_of(self, data: Any, k: int) -> Any:
            return data.reshape(len(data), -1, 34)[..., 0] & 1

        def store(self, data: Any, choices: Any, signs: Any) -> None:
            book = np.repeat(Booked._Points().books_of(data, 4 * choices.shape[1]), 8, axis=1)
            integers = self.points.reshape(2, 4, 4)[book, choices].reshape(len(data), -1)
            RightGrid().store(data, (integers + 127).astype(np.uint8))

    spec = replace(Right.spec, error_bound=0.9)
    grid: Any = _Points()

    def search(self, x: Any, w: Any) -> tuple[Any, Any]:
        scale = np.where(
            np.arange(x.shape[1]) % 2, np.float16(0.01), np.nextafter(np.float16(0.01), np.float16(1))
        )
        scale = np.broadcast_to(scale, x.shape[:2])
        book = scale.astype(np.float16).view(np.uint16) & 1
        wanted = x.reshape(*x.shape[:2], 8, 1, 4) / np.float32(0.01)
        points = self._Points.points.reshape(2, 4, 4)[book]
        nearest = np.square(wanted - points[:, :, None]).sum(axis=4).argmin(axis=3)
        return scale, np.take_along_axis(points, nearest[..., None], axis=2).reshape(x.shape).astype(np.int8)


class BooksForgotten(Booked):
    class _Points(Booked._Points):  # type: ignore[name-defined]  # a class within a class
        def books_of(self, data: Any, k: int) -> Any:
            return None

    grid = _Points()


class BooksBeyond(Booked):
    class _Points(Booked._Points):  # type: ignore[name-defined]  # a class within a class
        def books_of(self, data: Any, k: int) -> Any:
            return super().books_of(data, k) + np.uint8(1)

    grid = _Points()


class BooksChange(Booked):
    class _Points(Booked._Points):  # type: ignore[name-defined]  # a class within a class
        def store(self, data: Any, choices: Any, signs: Any) -> None:
            super().store(data, choices, signs)
            data[:, 0] ^= 1

    grid = _Points()


class Tied(Right):
    """Of each four integers an even number is odd, so that a bit could be saved."""

    class _Grid(RightGrid):
        fours = tuple((i, i + 8, i + 16, i + 24) for i in range(8))
        odd = tuple(value % 2 == 1 for value in RightGrid.values)

        def store(self, data: Any, choices: Any) -> None:
            if (((choices.reshape(-1, 4, 8) + np.uint8(1)) % 2).sum(axis=1) % 2).any():
                raise FormatError("a four is odd")
            super().store(data, choices)

    spec = replace(Right.spec, error_bound=0.02)
    grid: Any = _Grid()

    def search(self, x: Any, w: Any) -> tuple[Any, Any]:
        scale, codes = super().search(x, w)
        fours = codes.reshape(*codes.shape[:2], 4, 8)
        odd = fours.sum(axis=2) % 2
        fours[:, :, 0] += np.where(fours[:, :, 0] > 0, -odd, odd).astype(np.int8)
        return scale, codes


class FoursTakeAll(Tied):
    class _Grid(Tied._Grid):  # type: ignore[name-defined]  # a class within a class
        def store(self, data: Any, choices: Any) -> None:
            RightGrid().store(data, choices)

    grid = _Grid()


class FoursElsewhere(Tied):
    class _Grid(Tied._Grid):  # type: ignore[name-defined]  # a class within a class
        fours = tuple((4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3) for i in range(8))

    grid = _Grid()


class FoursLeaveSome(Tied):
    class _Grid(Tied._Grid):  # type: ignore[name-defined]  # a class within a class
        fours = Tied._Grid.fours[:-1]

    grid = _Grid()


class FoursOfOneKind(Tied):
    class _Grid(Tied._Grid):  # type: ignore[name-defined]  # a class within a class
        odd = tuple(False for _ in RightGrid.values)

    grid = _Grid()


class FoursNotKept(Tied):
    """What encode made has fours that are odd."""

    def search(self, x: Any, w: Any) -> tuple[Any, Any]:
        return Right.search(self, x, w)


RIGHT_GRIDS: list[type[Right]] = [Pointed, Paired, Booked, Tied]
"""One of each kind."""

GRID_MUTANTS: list[tuple[type[Right], str]] = [
    (MergesChoices, "grid"),
    (StoresOverScales, "grid"),
    (SaysOtherValues, "grid"),
    (SaysOtherGroups, "grid"),
    (GivesDoubleScales, "grid"),
    (ScalesChangeTheData, "grid"),
    (ForgetsChoices, "grid"),
    (PointsForgetSigns, "grid"),
    (PointsChangeScales, "grid"),
    (PointsOfOtherSizes, "grid"),
    (ForgetsShifts, "grid"),
    (PointsShifted, "grid"),
    (PointsNegative, "grid"),
    (PointsSigned, "grid"),
    (ManyPairs, "grid"),
    (BooksForgotten, "grid"),
    (BooksBeyond, "grid"),
    (BooksChange, "grid"),
    (FoursTakeAll, "grid"),
    (FoursElsewhere, "grid"),
    (FoursLeaveSome, "grid"),
    (FoursOfOneKind, "grid"),
    (FoursNotKept, "grid"),
]
