"""Numbers as people read them: weights, losses, time, shapes, counts; bytes as `quantrecipe.units` has them."""

from __future__ import annotations

from collections.abc import Iterable

from quantrecipe.units import bytes_text

__all__ = [
    "bytes_text",
    "count_text",
    "counted",
    "duration_text",
    "gib_text",
    "left_text",
    "loss_text",
    "shape_text",
    "unit_of",
]

_GIB = 1 << 30


def count_text(weights: float) -> str:
    """8_030_000_000 → "8.03 B"."""
    for unit in ("", "K", "M", "B"):
        if abs(weights) < 1000:
            return f"{weights:.0f}" if not unit else f"{weights:.2f} {unit}"
        weights /= 1000
    return f"{weights:.2f} T"


def counted(number: int, what: str, several: str = "") -> str:
    """(1, "rule") → "1 rule"; (3, "rule") → "3 rules". several: where that isn't the word with an s."""
    return f"{number} {what}" if number == 1 else f"{number} {several or f'{what}s'}"


def shape_text(shape: Iterable[int]) -> str:
    """(4096, 1024) → "4096 × 1024"; "scalar" where there are no dimensions."""
    return " × ".join(map(str, shape)) or "scalar"


def duration_text(seconds: float) -> str:
    """4000 → "1 h 07 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def loss_text(loss: float) -> str:
    """Three digits, however small: 0.00412, 0.0000123."""
    if loss == 0:
        return "0"
    return f"{loss:.3g}" if abs(loss) >= 1e-4 else f"{loss:.1e}"


def gib_text(nbytes: int, unit: int = _GIB) -> str:
    """4_920_000_000 → "4.58", for columns whose heading says GiB, or another unit; from 100 on one digit is enough."""
    return _digits(nbytes, "", unit)


def left_text(nbytes: int, unit: int = _GIB) -> str:
    """The same with its sign: what is left, or missing. What misses never reads as nothing."""
    text = _digits(nbytes, "+", unit)
    return "-0.01" if nbytes < 0 and text in ("-0.00", "+0.00") else text


def unit_of(largest: int) -> tuple[str, int]:
    """The unit for a column whose largest amount this is: ("GiB", 2^30), or MiB where it would show zeros."""
    return ("GiB", _GIB) if largest >= _GIB else ("MiB", _GIB >> 10)


def _digits(nbytes: int, sign: str, unit: int) -> str:
    return f"{nbytes / unit:{sign}.{1 if abs(nbytes) >= 100 * unit else 2}f}"
