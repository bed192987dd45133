"""Rates from times: what each type takes in each role, so that their sums come as near to what was timed as they can.

    seconds of a mix = constant + Σ amount[type, role] · rate[type, role]

The smallest relative errors, no rate below zero. Times of a few mixes can't tell all roles of a type apart when the
machine is noisy; so a rate that differs from those of the other roles costs a little, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quantrecipe.speed.profile import Rates, Role

__all__ = ["Amounts", "Timed", "rates_of"]

Amounts = Mapping[tuple[str, Role], int]
"""What a token needs of each type in each role: bytes that it reads, or weights that it is multiplied with."""

_ALIKE = 0.03
"""What it costs that a role's rate differs from the type's mean by its own size, beside a relative error of a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """A mix that was timed: what a token needs, and its seconds."""

    amounts: Amounts
    seconds: float


def rates_of(timed: Sequence[Timed]) -> tuple[Rates, float]:
    """The rates, and how far the times are from what they say: root mean square of the relative errors."""
    from scipy.optimize import nnls  # only where something was measured

    keys = list(dict.fromkeys(key for it in timed for key, amount in it.amounts.items() if amount))
    # Rates in units of what a byte takes on the whole, so that all unknowns are near 1; the constant in mean times.
    unit = sum(it.seconds for it in timed) / sum(sum(it.amounts.values()) for it in timed)
    mean = sum(it.seconds for it in timed) / len(timed)
    rows = np.zeros((len(timed), len(keys) + 1))
    for row, it in zip(rows, timed, strict=True):
        for place, key in enumerate(keys):
            row[place] = it.amounts.get(key, 0) * unit / it.seconds
        row[-1] = mean / it.seconds
    alike = _alike(keys)
    wanted = np.concatenate([np.ones(len(timed)), np.zeros(len(alike))])
    found, _ = nnls(np.concatenate([rows, _ALIKE * alike]), wanted)
    misfit = float(np.sqrt(np.mean((rows @ found - 1) ** 2)))
    by: dict[str, dict[Role, float]] = {}
    for (type_, role), rate in zip(keys, found[:-1].tolist(), strict=True):
        by.setdefault(type_, {})[role] = rate * unit
    return Rates(constant=float(found[-1]) * mean, by=by), misfit


def _alike(keys: Sequence[tuple[str, Role]]) -> np.ndarray:
    """A row for each rate: its difference from the mean of its type; the constant has no part in it."""
    rows = np.zeros((len(keys), len(keys) + 1))
    for place, (type_, _) in enumerate(keys):
        same = [number for number, (other, _) in enumerate(keys) if other == type_]
        rows[place, same] = -1 / len(same)
        rows[place, place] += 1
    return rows
