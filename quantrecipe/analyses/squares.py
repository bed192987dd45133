"""squared_losses: what encoding and decoding does to rows, in weighted squares; for analyses that are made of them.

An error is noise, and a part that goes along with the weights: a format that makes them all a little larger or smaller.
Noise adds up in outputs as squares do. What goes along with the weights changes outputs as a factor would, and outputs
are larger than the sum of squares says, since inputs go together: so that part counts `ALONG` times in layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.api import QuantFormat
from quantrecipe.errors import NonFiniteError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import DoubleArray, FloatArray
    from quantrecipe.tensor import TensorInfo

__all__ = ["ALONG", "along_of", "squared_losses"]

ALONG = 10.0
"""How many times what an error has along the weights counts.

Of 28 matrices of the example model, each in nine types, the effect on the output per unit of loss is most alike over
types with 8 to 12: it differs by 10 %, and by 13 % with 0, most of that for IQ3_S, which makes weights 2 % larger,
and Q2_K, which makes them 4 % smaller.
"""

_OUTSIDE = 0.0
"""The same for head and embeddings: nothing comes behind the head, and a softmax takes from its outputs what they have
in common. In twelve types, the effect per unit of loss differs by 5 to 11 % with 0 and by 8 to 15 % with 10 (the heads
and embeddings of two models). Where few inputs have most of the importance, an error in these is "along the weights"
by itself, and with 10 K types on the head of a mixture of experts were seen at a third of what they do."""

_CHUNK_WEIGHTS = 1 << 18
"""Weights at a time: 2 MiB of float64, near the caches, however many rows there are."""


def along_of(tensor: TensorInfo) -> float:
    """How many times the part along the weights counts in this tensor."""
    return _OUTSIDE if tensor.layer is None else ALONG


def squared_losses(
    rows: FloatArray,
    fmt: QuantFormat,
    importance: FloatArray | None,
    weight: FloatArray | None,
    *,
    along: float = ALONG,
) -> tuple[DoubleArray, DoubleArray]:
    """(Σ w (x - x̂)² + along (Σ w x (x - x̂))² / Σ w x², Σ w x²) of each row, float64 (n,).

    Encoded with `importance`, weighted with `weight`; what the error has along the weights counts more: see above.

    A format with a companion tensor gets the rows divided by its factor, as when a file is written.
    """
    n, k = rows.shape
    together = fmt.spec.rows_per_group
    step = max(together, _CHUNK_WEIGHTS // max(1, k) // together * together)
    squares = None if weight is None else weight.astype(np.float64)
    factor = None
    if fmt.spec.companion is not None:
        factor = np.float32(fmt.factor(float(np.abs(rows).max(initial=0))))
    lost, whole = np.empty(n), np.empty(n)
    for start in range(0, n, step):
        part = rows[start : start + step]
        decoded = fmt.decode(fmt.encode(part if factor is None else part / factor, importance), k)
        exact = part.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # Inf - Inf: told below
            off = exact - (decoded if factor is None else decoded * factor)
            energy, noise = _sums(exact, exact, squares), _sums(off, off, squares)
            shared = np.square(_sums(off, exact, squares)) / np.where(energy == 0, 1.0, energy)
            # No more is lost than there is, but by noise.
            lost[start : start + step] = np.maximum(noise, np.minimum(noise + along * shared, energy))
            whole[start : start + step] = energy
    if not (np.isfinite(lost).all() and np.isfinite(whole).all()):
        raise NonFiniteError(f"the error of {fmt.spec.name} is not a number", "are there NaN or Inf weights?")
    return lost, whole


def _sums(
    one: NDArray[np.float64], other: NDArray[np.float64], weight: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    products = one * other
    if weight is not None:
        products *= weight  # and not a product of matrices: what BLAS returns differs between machines
    sums: NDArray[np.float64] = products.sum(axis=1)
    return sums
