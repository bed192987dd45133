"""Two files beside each other in words: whether the difference is worth it, and what says so."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.eval.candidates import Candidate
from quantrecipe.cli.tables import Paragraph
from quantrecipe.evaluate import Interval, Noise, Pair

__all__ = ["change_text", "range_text", "render_verdicts", "verdict_text"]

_ADVICE = {
    "better": "don't go without it",
    "slightly better": "a small gain",
    "same": "not worth it",
    "slightly worse": "a small loss",
    "worse": "don't go without {other}",
}
_LIMITS = {
    "better": "more than 10 % less",
    "slightly better": "between 3 and 10 % less",
    "same": "less than 3 % either way",
    "slightly worse": "between 3 and 10 % more",
    "worse": "more than 10 % more",
}
_TWICE = 1.0  # a change from which on it is told as a factor


def render_verdicts(
    candidates: Sequence[Candidate], names: Sequence[str], noise: Noise | None
) -> list[RenderableType]:
    """A paragraph for each file beside the first one. noise: of the reference, None where it wasn't measured."""
    found: list[RenderableType] = []
    for name, it in zip(names[1:], candidates[1:], strict=True):
        if it.beside is None:
            continue
        verdict, why = verdict_text(it.beside, names[0], noise)
        size = it.nbytes / candidates[0].nbytes - 1
        start = Text.assemble(
            (f"{printable(name)} against {printable(names[0])}: ", ""), (printable(verdict), "bold")
        )
        found.append(Paragraph(Text.assemble(start, printable(f"; {why}; size {100 * size:+.1f} %."))))
    return found


def verdict_text(pair: Pair, other: str, noise: Noise | None) -> tuple[str, str]:
    """The verdict, and what it rests on."""
    figures = f"mean KL divergence {change_text(pair.kld_mean)}"
    if (limits := _LIMITS.get(pair.verdict)) is not None:
        others = [
            f"{name} {change_text(figure)}"
            for name, figure in (("its 99 %", pair.kld_99), ("perplexity", pair.perplexity))
            if figure.known is not None
        ]
        others.append(f"top-1 agreement {_points(pair.top1)}")
        return _ADVICE[pair.verdict].format(other=other), "; ".join([f"{figures}, {limits}", *others])
    if pair.verdict == "noise":
        own = f"{noise.mean:.2g}" if noise is not None else "0"
        return "no difference that counts", f"{figures}, which is less than the engine's own noise ({own})"
    needed = f"about {_times(pair.text_needed)} as much would be needed"
    if pair.text_needed is None:
        needed = "more text would hardly change that"
    known = pair.kld_mean.known
    if known is not None and (known[0] > 0 or known[1] < 0):
        sign = "worse" if known[0] > 0 else "better"
        return f"{sign}, but whether it is worth it can't be told on this much text", f"{figures}; {needed}"
    return "can't be told apart on this much text", f"{figures}; {needed}"


def change_text(change: Interval) -> str:
    """A relative change and where it lies: "+12.3 % (10.9 to 13.7)", "19.7 × (19.5 to 19.9)"."""
    factor = change.value > _TWICE
    digits = [
        f"{1 + it:.1f}" if factor else f"{100 * it:+.1f}" for it in (change.value, *(change.known or ()))
    ]
    unit = "×" if factor else "%"
    return f"{digits[0]} {unit}" + (f" ({digits[1]} to {digits[2]})" if change.known else "")


def range_text(interval: Interval) -> str:
    """Where a figure lies, with two digits of how wide that is: "0.00273 to 0.00292"; "" where that isn't known."""
    if interval.known is None:
        return ""
    low, high = interval.known
    if low == high:
        return f"{low:g}"
    places = min(8, max(0, 1 - math.floor(math.log10(high - low))))
    return f"{low:.{places}f} to {high:.{places}f}"


def _points(change: Interval) -> str:
    """A difference of shares, in percentage points."""
    said = f"{100 * change.value:+.2f} points"
    if change.known is None:
        return said
    return f"{said} ({100 * change.known[0]:+.2f} to {100 * change.known[1]:+.2f})"


def _times(factor: float | None) -> str:
    if factor is None:
        return ""
    return f"{factor:.1f} times" if factor < 2 else f"{factor:.0f} times"
