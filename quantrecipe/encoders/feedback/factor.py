"""What error feedback has to know of a matrix's inputs: the Gram matrix H, damped, as H = N D Nᵀ.

N is upper triangular with ones on its diagonal, D diagonal. If R is what rounding adds to a row of weights (the old
weight minus the new one), the output's mean square error is

    R H Rᵀ = Σ D_j (R_j + Σ_{i<j} R_i N_ij)²

So when columns are rounded in order, the best that column j can do is to come close to w_j + Σ_{i<j} R_i N_ij, and
D_j is how much it costs to miss that: the variance of input j, given all later ones. GPTQ has the same from a Cholesky
factor U of the inverse, D_j = 1 / U_jj²; here nothing is inverted.

It is computed as a Cholesky factor of H with rows and columns in reverse order, in float64, in tiles:

    tile (i, j) of row i and column j ≤ i is number i (i + 1) / 2 + j; float64 (TILE, TILE)
    what is beyond the last column is a unit matrix

Each number takes its products in the order of columns (see `products.py`), so the bytes are the same on any machine and
at any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.core.jit import kernel
from quantrecipe.core.scalars import F32, Floats, Int
from quantrecipe.encoders.feedback.products import add_product, fma, strips_size, where
from quantrecipe.errors import ImportanceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import FloatArray

__all__ = ["Factor", "factorize"]

TILE = 64
_HARDER = 10.0
"""How much more damping there is at each further try."""
_MOST = 1.0
"""Damping beyond this would make every input alike: it isn't the Gram matrix of anything."""
_AGAIN = "compute it again, from more text"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Factor:
    """A Gram matrix, in units of its mean diagonal and damped, and its factors.

    gram:      float32 (k, k)
    unit:      N, which has ones on its diagonal, in strips (see `products.py`): float32
    variances: D, float32 (k,), all positive
    columns:   intp (k,): the order of rounding, which rows and columns of N and D have; those of gram are in their own
    damping:   what was added to the diagonal in the end, in units of its mean
    wanted:    what was asked for
    """

    gram: FloatArray
    unit: FloatArray
    variances: FloatArray
    columns: NDArray[np.intp]
    damping: float
    wanted: float


def factorize(
    gram: FloatArray, damping: float, threads: int = 1, *, columns: NDArray[np.intp] | None = None
) -> Factor:
    """gram: float32 (k, k), symmetric, not changed. More damping is tried where it isn't positive definite with this.

    columns: in which order they are rounded; None: as they are
    ImportanceError where a number isn't finite, all are zero, or no damping below that of a unit matrix helps.
    """
    gram = np.ascontiguousarray(gram, np.float32)
    k = len(gram)
    if gram.shape != (k, k):
        raise ImportanceError(f"a Gram matrix is square, and this one has the shape {gram.shape}")
    diagonal = np.diagonal(gram).astype(np.float64)
    if not np.isfinite(gram).all():
        row, column = np.argwhere(~np.isfinite(gram))[0]
        raise ImportanceError(
            f"the Gram matrix has {gram[row, column]} in row {row}, column {column}", _AGAIN
        )
    mean = float(diagonal.sum()) / k
    if not mean > 0 or (diagonal < 0).any():
        what = "all inputs are zero" if mean == 0 else "a mean square is negative"
        raise ImportanceError(f"the Gram matrix says nothing: {what}", _AGAIN)
    tried, columns = damping, np.arange(k) if columns is None else columns
    while True:
        tiles = _tiles(gram, columns[::-1], mean, tried)
        column = _cholesky(tiles, -(-k // TILE), threads)
        if column is None:
            break
        harder = max(tried * _HARDER, 1e-3)
        if harder > _MOST:
            what = f"the Gram matrix isn't positive definite, even with a damping of {tried:g}"
            raise ImportanceError(what, _AGAIN)
        tried = harder
    unit, variances = np.zeros(strips_size(k), np.float32), np.empty(k, np.float32)
    _unpack(tiles, unit, variances)
    scaled = gram * np.float32(1 / mean)
    scaled[np.diag_indices(k)] += np.float32(tried)
    return Factor(gram=scaled, unit=unit, variances=variances, columns=columns, damping=tried, wanted=damping)


def _tiles(gram: FloatArray, columns: NDArray[np.intp], mean: float, damping: float) -> NDArray[np.float64]:
    """The tiles of gram / mean + damping, with rows and columns in this order."""
    k, count = len(gram), -(-len(gram) // TILE)
    tiles = np.zeros((count * (count + 1) // 2, TILE, TILE), np.float64)
    for i in range(count):
        rows = gram[columns[i * TILE : (i + 1) * TILE]]
        for j in range(i + 1):
            part = rows[:, columns[j * TILE : (j + 1) * TILE]]
            tile = tiles[i * (i + 1) // 2 + j]
            tile[: part.shape[0], : part.shape[1]] = part
            tile /= mean
        on_diagonal = np.arange(TILE)
        tile[on_diagonal, on_diagonal] += np.where(i * TILE + on_diagonal < k, damping, 1.0)
    return tiles


def _cholesky(tiles: NDArray[np.float64], count: int, threads: int) -> int | None:
    """Replace tiles by those of the lower Cholesky factor; the column of tiles in which that fails, None if none."""
    turned = np.empty((count, TILE, TILE), np.float64)
    with ThreadPoolExecutor(threads) as pool:
        for j in range(count):
            _turn(tiles, j, turned)
            if _diagonal(tiles, j, turned) != 0:
                return j
            _side_by_side(pool, threads, j + 1, count, partial(_below_rows, tiles, j, turned))
    return None


def _below_rows(
    tiles: NDArray[np.float64], j: int, turned: NDArray[np.float64], first: int, last: int
) -> None:
    _below(tiles, j, first, last, turned)


def _side_by_side(
    pool: ThreadPoolExecutor, threads: int, first: int, last: int, work: Callable[[int, int], None]
) -> None:
    """work(a, b) for all rows of tiles from first to last, in one piece for each thread."""
    if threads == 1:
        work(first, last)
        return
    cuts = [first + (last - first) * i // threads for i in range(threads + 1)]
    list(pool.map(work, cuts[:-1], cuts[1:]))


@kernel("void(float64[:,:,::1], int64, float64[:,:,::1])")
def _turn(tiles: Floats, j: Int, turned: Floats) -> None:
    """The tiles of row j, transposed and negative: what is taken away from others goes through `add_product`."""
    for p in range(j):
        tile = tiles[j * (j + 1) // 2 + p]
        for r in range(TILE):
            for c in range(TILE):
                turned[p, c, r] = -tile[r, c]


@kernel
def _update(tiles: Floats, i: Int, j: Int, turned: Floats) -> None:
    """Tile (i, j) less the products of all tiles to the left."""
    row = i * (i + 1) // 2
    for p in range(j):
        left = tiles[row + p]
        add_product(left, turned[p], tiles[row + j])


@kernel("int64(float64[:,:,::1], int64, float64[:,:,::1])")
def _diagonal(tiles: Floats, j: Int, turned: Floats) -> Int:
    """The factor of tile (j, j), and that transposed to turned[j]; 1 where it isn't positive definite, else 0."""
    _update(tiles, j, j, turned)
    a, t = tiles[j * (j + 1) // 2 + j], turned[j]
    for c in range(TILE):
        pivot = a[c, c]
        if not pivot > 0.0:
            return 1
        root = np.sqrt(pivot)
        for r in range(c, TILE):
            a[r, c] = a[r, c] / root
        for r in range(c + 1, TILE):
            for s in range(c + 1, r + 1):
                a[r, s] = fma(-a[r, c], a[s, c], a[r, s])
    for r in range(TILE):
        for c in range(TILE):
            t[c, r] = a[r, c] if c <= r else 0.0
            a[r, c] = t[c, r]
    return 0


@kernel("void(float64[:,:,::1], int64, int64, int64, float64[:,:,::1])")
def _below(tiles: Floats, j: Int, first: Int, last: Int, turned: Floats) -> None:
    """The factor's tiles (i, j) for i from first to last. turned[j]: the factor of tile (j, j), transposed."""
    t = turned[j]
    for i in range(first, last):
        _update(tiles, i, j, turned)
        a = tiles[i * (i + 1) // 2 + j]
        for r in range(TILE):
            for c in range(TILE):
                a[r, c] = a[r, c] / t[c, c]
                factor = -a[r, c]
                for s in range(c + 1, TILE):
                    a[r, s] = fma(factor, t[c, s], a[r, s])


@kernel("void(float64[:,:,::1], float32[::1], float32[::1])")
def _unpack(tiles: Floats, unit: Floats, variances: Floats) -> None:
    """N and D from the factor in reverse order."""
    k = variances.size
    for c in range(k):
        i = k - 1 - c
        root = tiles[(i // TILE) * (i // TILE + 1) // 2 + i // TILE, i % TILE, i % TILE]
        variances[c] = F32(root * root)
    for r in range(k):
        i = k - 1 - r
        for c in range(r, k):
            j = k - 1 - c
            # Row r of N is row i of the factor; its column c is column j, divided by what is on the diagonal there.
            upper, lower = max(i, j), min(i, j)
            tile = tiles[(upper // TILE) * (upper // TILE + 1) // 2 + lower // TILE]
            root = tiles[(j // TILE) * (j // TILE + 1) // 2 + j // TILE, j % TILE, j % TILE]
            unit[where(r, c)] = F32(tile[upper % TILE, lower % TILE] / root)
