"""What encoders promise: bytes that the format decodes, rows that are apart, and errors for what can't be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.api import Encoder, InputStatistics, QuantFormat
from quantrecipe.errors import ImportanceError, NonFiniteError
from quantrecipe.registry import load_registry
from quantrecipe.testing.analyses import check_words
from quantrecipe.testing.failure import require, same_bytes

if TYPE_CHECKING:
    from quantrecipe.api import FloatArray

__all__ = [
    "ENCODER_CHECKS",
    "check_bytes",
    "check_rows_alone",
    "check_settled",
    "check_side_by_side",
    "check_unsuitable",
]

_FORMATS = ("Q4_K", "Q4_0", "IQ4_XS", "IQ3_S")
"""Large blocks and small ones, values without gaps and with gaps, and a format without a grid."""
_COLUMNS = 512
_NOT_MUCH_WORSE = 1.1
"""An encoder may aim at something else than the plain one does; on inputs that go together it has no reason to lose."""


def check_bytes(encoder: Encoder, seed: int = 0) -> None:
    """encode: the format's bytes, into `out` if given; the output's error is not above that of the plain encoding."""
    rows, statistics = _rows(12, seed), _statistics(seed)
    for fmt, prepared in _prepared(encoder, statistics):
        data = encoder.encode(rows, fmt, np.diagonal(statistics.gram).copy(), prepared)
        shape = len(rows), fmt.spec.row_bytes(_COLUMNS)
        what = f"{fmt.spec.name} rows"
        require(
            data.shape == shape and data.dtype == np.uint8,
            f"{what}: {data.dtype} {data.shape} instead of uint8 {shape}",
        )
        out = np.full(shape, 0xA5, np.uint8)
        answer = encoder.encode(rows, fmt, np.diagonal(statistics.gram).copy(), prepared, out=out)
        require(answer is out, f"{what}: encode doesn't return `out`")
        same_bytes(fmt.spec, out, data, f"{what} in `out`")
        plain = fmt.encode(rows, np.diagonal(statistics.gram).copy())
        lost = [_lost(rows - fmt.decode(made, _COLUMNS), statistics.gram) for made in (data, plain)]
        require(
            lost[0] <= _NOT_MUCH_WORSE * lost[1],
            f"{what}: the output's mean square error is {lost[0] / lost[1]:.2f} of that of the plain encoding",
        )
    require(encoder.encode(rows[:0], *_first(encoder, statistics)).shape[0] == 0, "no rows give some")


def check_rows_alone(encoder: Encoder, seed: int = 0) -> None:
    """A row's bytes don't depend on the rows that it comes with, nor on their order; the input isn't changed."""
    rows, statistics = _rows(37, seed), _statistics(seed)
    rows.flags.writeable = statistics.gram.flags.writeable = False
    for fmt, prepared in _prepared(encoder, statistics):
        whole = encoder.encode(rows, fmt, None if _can_go_without(fmt) else _ones(), prepared)
        given = None if _can_go_without(fmt) else _ones()
        for step in (1, 5, 16):
            parts = [
                encoder.encode(rows[i : i + step], fmt, given, prepared) for i in range(0, len(rows), step)
            ]
            same_bytes(fmt.spec, np.concatenate(parts), whole, f"{fmt.spec.name}, {step} rows at a time")
        backwards = encoder.encode(rows[::-1], fmt, given, prepared)
        same_bytes(fmt.spec, backwards[::-1].copy(), whole, f"{fmt.spec.name}, in another order")


def check_side_by_side(encoder: Encoder, seed: int = 0) -> None:
    """Threads that encode side by side don't disturb each other, nor does it matter how many prepare."""
    rows, statistics = _rows(9, seed), _statistics(seed)
    for fmt, prepared in _prepared(encoder, statistics):
        whole = encoder.encode(rows, fmt, _ones(), prepared)
        again = encoder.prepare(statistics, fmt=fmt, threads=3)
        same_bytes(
            fmt.spec, encoder.encode(rows, fmt, _ones(), again), whole, "what was prepared by three threads"
        )
        with ThreadPoolExecutor(4) as pool:
            made = pool.map(
                lambda _, fmt=fmt, prepared=prepared: encoder.encode(rows, fmt, _ones(), prepared), range(8)
            )
            for data in made:
                same_bytes(fmt.spec, data, whole, f"{fmt.spec.name} in one of 4 threads")


def check_settled(encoder: Encoder, seed: int = 0) -> None:
    """settled: all options, by the names that they have, and the same whenever it is asked."""
    for tokens in (1, _COLUMNS, 1000 * _COLUMNS):
        settled = encoder.settled(tokens, _COLUMNS)
        require(
            settled.keys() == encoder.options.keys(),
            f"settled has {sorted(settled)}, and the options are {sorted(encoder.options)}",
        )
        again = encoder.settled(tokens, _COLUMNS)
        require(dict(settled) == dict(again), f"settled isn't the same again for {tokens} tokens")


def check_unsuitable(encoder: Encoder, seed: int = 0) -> None:
    """NaN and Inf among the weights are a NonFiniteError; missing statistics and NaN in them an ImportanceError."""
    statistics = _statistics(seed)
    for fmt, prepared in _prepared(encoder, statistics):
        for value in (np.nan, np.inf):
            rows = _rows(4, seed)
            rows[2, 7] = value
            try:
                encoder.encode(rows, fmt, _ones(), prepared)
            except NonFiniteError:
                continue
            require(False, f"{value} among the weights is no NonFiniteError")
    if not encoder.needs_statistics:
        return
    wrong = statistics.gram.copy()
    wrong[3, 5] = wrong[5, 3] = np.nan
    for given, what in (
        (None, "no statistics"),
        (InputStatistics(gram=wrong, tokens=9), "NaN in statistics"),
    ):
        try:
            encoder.prepare(given)
        except ImportanceError:
            continue
        require(False, f"{what}: no ImportanceError")


ENCODER_CHECKS: tuple[Callable[[Encoder, int], None], ...] = (
    check_words,
    check_bytes,
    check_rows_alone,
    check_side_by_side,
    check_settled,
    check_unsuitable,
)
"""What every encoder is held to."""


def _prepared(encoder: Encoder, statistics: InputStatistics) -> Iterator[tuple[QuantFormat, Any]]:
    """Each of a few formats that the encoder accepts, with what it has prepared."""
    formats = load_registry(plugins=False).formats
    accepted = [formats[name] for name in _FORMATS if encoder.accepts(formats[name]) is None]
    require(accepted, f"none of {', '.join(_FORMATS)} is accepted")
    for fmt in accepted:
        yield fmt, encoder.prepare(statistics, fmt=fmt)


def _first(encoder: Encoder, statistics: InputStatistics) -> tuple[QuantFormat, FloatArray, Any]:
    fmt, prepared = next(_prepared(encoder, statistics))
    return fmt, _ones(), prepared


def _can_go_without(fmt: QuantFormat) -> bool:
    return fmt.spec.importance != "required"


def _ones() -> FloatArray:
    return np.ones(_COLUMNS, np.float32)


def _rows(n: int, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, _COLUMNS), np.float32) * np.float32(0.02)


def _statistics(seed: int) -> InputStatistics:
    """Of inputs that go together, as those of models do."""
    rng = np.random.default_rng(seed + 1)
    mixed = rng.standard_normal((_COLUMNS, _COLUMNS), np.float32) * np.float32(0.05)
    inputs = rng.standard_normal((2 * _COLUMNS, _COLUMNS), np.float32) @ (
        mixed + np.eye(_COLUMNS, dtype=np.float32)
    )
    gram = (inputs.T @ inputs / len(inputs)).astype(np.float32)
    return InputStatistics(gram=gram, tokens=len(inputs))


def _lost(off: FloatArray, gram: FloatArray) -> float:
    """Σ E H Eᵀ over the rows E of what weights are off by."""
    return float(((off.astype(np.float64) @ gram) * off).sum())
