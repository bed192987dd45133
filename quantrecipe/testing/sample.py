"""Seeded rows and importance for checks: ordinary ones, and a zoo of those that quantizers stumble over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from quantrecipe.api import FloatArray, QuantFormat

__all__ = [
    "KINDS",
    "columns_of",
    "distributions",
    "importance_for",
    "nasty_importance",
    "nasty_rows",
    "ordinary_rows",
]

Rng = np.random.Generator
Values = Any
"""float64 (k,); becomes float32 where the row is filled."""


def columns_of(fmt: QuantFormat, blocks: int = 3) -> int:
    """Columns that the format accepts: so many blocks, or so many times 32 where blocks are single weights."""
    return blocks * (fmt.spec.block if fmt.spec.block > 1 else 32)


def ordinary_rows(fmt: QuantFormat, n: int, seed: int, k: int | None = None) -> FloatArray:
    """float32 (n, k): weights as models have them, some rows large, some sparse; n is rounded up to whole groups."""
    n += -n % fmt.spec.rows_per_group
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, k or columns_of(fmt)), np.float32) * np.float32(0.02)
    rows[::5] *= np.float32(300)
    rows[1::7, ::3] = 0
    return rows


def importance_for(fmt: QuantFormat, k: int, seed: int) -> FloatArray | None:
    """float32 (k,), positive; None for a format that has no use for it."""
    if fmt.spec.importance == "ignored":
        return None
    return np.random.default_rng(seed).exponential(1.0, k).astype(np.float32)


def _gaussian(rng: Rng, k: int) -> Values:
    return rng.standard_normal(k) * 10.0 ** rng.uniform(-9, 6)


def _laplace(rng: Rng, k: int) -> Values:
    return rng.laplace(size=k) * 0.02


def _heavy(rng: Rng, k: int) -> Values:
    return rng.standard_t(2, k) * 0.02


def _uniform(rng: Rng, k: int) -> Values:
    low, high = sorted(rng.uniform(-1, 1, 2))
    return low + (high - low) * rng.random(k)


def _one_sign(rng: Rng, k: int) -> Values:
    return rng.choice([-1, 1]) * abs(rng.standard_normal(k)) * 0.1


def _sparse(rng: Rng, k: int) -> Values:
    return rng.standard_normal(k) * (rng.random(k) < rng.choice([0.02, 0.3]))


def _constant(rng: Rng, k: int) -> Values:
    return np.full(k, rng.choice([0.0, -0.0, 0.125, -3.0, 1e-20, 7e11]))


def _ties(rng: Rng, k: int) -> Values:
    return rng.choice([-1, -0.5, -0.0, 0.0, 0.5, 1], k) * 2.0 ** rng.integers(-12, 4)


def _integers(rng: Rng, k: int) -> Values:
    return rng.integers(-rng.integers(1, 200), rng.integers(1, 200), k).astype(float)


def _denormals(rng: Rng, k: int) -> Values:
    return rng.standard_normal(k) * 10.0 ** rng.uniform(-44, -36)


def _outliers(rng: Rng, k: int) -> Values:
    x = rng.standard_normal(k) * 0.02
    x[rng.integers(0, k, max(1, k // 100))] *= 10.0 ** rng.uniform(1, 5)
    return x


def _near_powers_of_two(rng: Rng, k: int) -> Values:
    powers = (2.0 ** rng.integers(-10, 10, k) * rng.choice([-1, 1], k)).astype(np.float32)
    return np.nextafter(powers, powers * rng.choice([0, 1, 2], k).astype(np.float32))


def _every_group_its_scale(rng: Rng, k: int) -> Values:
    return rng.standard_normal(k) * np.repeat(10.0 ** rng.uniform(-6, 3, -(-k // 16)), 16)[:k]


def _narrow(rng: Rng, k: int) -> Values:
    return rng.choice([-1, 1]) * (1 + rng.standard_normal(k) * 10.0 ** rng.uniform(-8, -3))


def _huge(rng: Rng, k: int) -> Values:
    return rng.standard_normal(k) * 10.0 ** rng.uniform(6, 12)


def _bf16(rng: Rng, k: int) -> Values:
    return ((rng.standard_normal(k) * 0.05).astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


KINDS: tuple[Callable[[Rng, int], Values], ...] = (
    _gaussian, _laplace, _heavy, _uniform, _one_sign, _sparse, _constant, _ties, _integers, _denormals,
    _outliers, _near_powers_of_two, _every_group_its_scale, _narrow, _huge, _bf16,
)  # fmt: skip


def nasty_rows(rng: Rng, n: int, k: int) -> FloatArray:
    """float32 (n, k), finite: each row of one kind, or of two that share it block by block."""
    rows = np.empty((n, k), np.float32)
    for row in rows:
        one, other = rng.integers(0, len(KINDS), 2)
        row[:] = KINDS[one](rng, k)
        if rng.random() < 0.25:
            half = rng.integers(0, k // 32 + 1) * 32
            row[half:] = KINDS[other](rng, k)[half:]
    return rows


def nasty_importance(rng: Rng, k: int) -> FloatArray:
    """float32 (k,), finite and not negative: spikes, zeros, one size, or many sizes."""
    kind = rng.integers(0, 5)
    if kind == 0:
        weights = np.full(k, 10.0 ** rng.uniform(-6, 4))
    elif kind == 1:
        weights = rng.exponential(1.0, k)
    elif kind == 2:
        weights = rng.exponential(1.0, k) * (rng.random(k) < 0.5)
    elif kind == 3:
        weights = 10.0 ** rng.uniform(-10, 5, k)
    else:
        weights = rng.exponential(1.0, k) + (rng.random(k) < 0.02) * 1e4
        weights[: k // 2 // 32 * 32] = 0
    return weights.astype(np.float32)


def distributions(fmt: QuantFormat, seed: int) -> list[tuple[str, FloatArray]]:
    """Rows like those of models, by the name of how their weights are distributed."""
    rng = np.random.default_rng(seed)
    k = columns_of(fmt, max(1, 1024 // fmt.spec.block))
    shape = (32 + -32 % fmt.spec.rows_per_group, k)
    scale = np.float32(0.02)
    return [
        ("Gaussian", rng.standard_normal(shape, np.float32) * scale),
        ("Laplace", rng.laplace(size=shape).astype(np.float32) * scale),
    ]
