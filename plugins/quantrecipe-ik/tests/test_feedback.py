"""Error feedback in all formats: most of what is lost is made good, and a row's bytes depend on the row alone."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from quantrecipe.api import Encoder, InputStatistics, QuantFormat
from quantrecipe.registry import load_registry

from quantrecipe_ik.formats import ALL

K, N = 512, 12


@cache
def statistics() -> InputStatistics:
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((K, K)) * 0.3 * np.exp(-np.arange(K) / 100)[:, None]
    inputs = rng.standard_normal((2000, K)) @ mixed + 0.3 * rng.standard_normal((2000, K))
    return InputStatistics(gram=(inputs.T @ inputs / 2000).astype(np.float32), tokens=2000)


def feedback(rounds: int) -> Encoder:
    return load_registry(plugins=False).encoder("feedback").with_options({"rounds": rounds})


def rows() -> np.ndarray:
    return (np.random.default_rng(1).standard_normal((N, K)) * 0.02).astype(np.float32)


def lost(fmt: QuantFormat, data: np.ndarray) -> float:
    off = rows() - fmt.decode(data, K).astype(np.float64)
    return float(((off @ statistics().gram) * off).sum())


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.spec.name)
def test_most_of_the_error_is_made_good(fmt: QuantFormat) -> None:
    encoder: Any = feedback(0)
    assert encoder.accepts(fmt) is None
    prepared = encoder.prepare(statistics(), fmt=fmt)
    plain = lost(fmt, fmt.encode(rows(), np.diagonal(statistics().gram).copy()))
    steps = [lost(fmt, feedback(count).encode(rows(), fmt, None, prepared)) for count in (0, 2)]
    assert steps[0] < 0.5 * plain
    assert steps[1] < 0.95 * steps[0]


@pytest.mark.parametrize("name", ["IQ4_KSS", "IQ2_KL", "IQ2_KT", "IQ3_KT", "IQ4_KT"])
def test_a_row_depends_on_itself_alone(name: str) -> None:
    fmt = next(it for it in ALL if it.spec.name == name)
    encoder = feedback(1)
    prepared = encoder.prepare(statistics(), fmt=fmt, threads=2)
    whole = encoder.encode(rows(), fmt, None, prepared)
    parts = [encoder.encode(rows()[first : first + 5], fmt, None, prepared) for first in range(0, N, 5)]
    assert np.array_equal(np.concatenate(parts), whole)
