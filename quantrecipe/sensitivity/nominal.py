"""nominal_error: what a format typically loses, for where nothing was measured.

`nominal_errors.toml` has the relative error of every built-in format on Gaussian weights, which the weights of
trained models resemble; `tools/make_nominal_errors.py` makes it by encoding and decoding. A format that isn't in
it gets the error that others of its size have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

from quantrecipe.api import FormatSpec
from quantrecipe.packaged import packaged_table

__all__ = ["nominal_error", "nominal_errors"]


def nominal_error(spec: FormatSpec) -> float:
    """D on Gaussian weights: 0 for F32 and what only passes through."""
    table = nominal_errors()
    if spec.name in table:
        return table[spec.name][1]
    if not spec.codec:
        return 0.0
    return _between(spec.bits_per_weight, [entry for entry in table.values() if entry[1] > 0])


@lru_cache(maxsize=1)
def nominal_errors() -> Mapping[str, tuple[float, float]]:
    """The bits per weight and D of each format in the table, by its name."""
    formats = packaged_table("sensitivity/nominal_errors.toml")["formats"]
    return {name: (float(bits), float(error)) for name, (bits, error) in formats.items()}


def _between(bits: float, entries: list[tuple[float, float]]) -> float:
    """On the line through the two nearest sizes, log D against bits; beyond the ends, 6 dB a bit.

    Formats that lose more than a smaller one are left aside.
    """
    best: dict[float, float] = {}
    for size, error in sorted(entries):
        if not best or error < min(best.values()):
            best[size] = error
    sizes = list(best)
    if bits <= sizes[0]:
        return min(1.0, best[sizes[0]] * 4 ** (sizes[0] - bits))
    if bits >= sizes[-1]:
        return best[sizes[-1]] * 4 ** (sizes[-1] - bits)
    above = next(number for number, size in enumerate(sizes) if size >= bits)
    low, high = sizes[above - 1], sizes[above]
    share = (bits - low) / (high - low)
    return math.exp((1 - share) * math.log(best[low]) + share * math.log(best[high]))
