"""Numbers as people read them: weights, time; bytes as `quantrecipe.units` has them."""

from __future__ import annotations

from quantrecipe.units import bytes_text

__all__ = ["bytes_text", "count_text", "duration_text"]


def count_text(weights: float) -> str:
    """8_030_000_000 → "8.03 B"."""
    for unit in ("", "K", "M", "B"):
        if abs(weights) < 1000:
            return f"{weights:.0f}" if not unit else f"{weights:.2f} {unit}"
        weights /= 1000
    return f"{weights:.2f} T"


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
