"""The figures of `eval` as a person reads them: one file in full, several in a line each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.eval.answers import render_answers
from quantrecipe.cli.eval.candidates import Candidate
from quantrecipe.cli.eval.verdicts import change_text, range_text, render_verdicts
from quantrecipe.cli.tables import Kind, Paragraph, Table, numbers, within_folder
from quantrecipe.cli.units import bytes_text
from quantrecipe.evaluate import Evaluation, Interval, Intervals, Noise, Reference

if TYPE_CHECKING:
    from quantrecipe.cli.eval.run import Outcome

__all__ = ["by_context_table", "figures_table", "names_of", "render", "side_by_side"]


def render(outcome: Outcome, *, by_context: bool = False) -> RenderableType:
    """A heading on the reference, a table, and what it says; by_context: and a table by tokens of context."""
    candidates, reference = outcome.candidates, outcome.reference
    heading = _heading(reference)
    if not candidates:
        return heading
    names = names_of(candidates)
    shown = _one(candidates[0]) if len(candidates) == 1 else side_by_side(candidates, names, reference.noise)
    more: list[RenderableType] = [by_context_table(candidates, names)] if by_context else []
    if outcome.answered is not None:
        more += render_answers(outcome.answered, names)
    for extra in outcome.extras:
        more += [Text(), *extra.render(names)]
    if more and len(candidates) > 1:  # behind the verdicts
        more.insert(0, Text())
    return Group(heading, shown, *more)


def names_of(candidates: Sequence[Candidate]) -> list[str]:
    """What the files are called in tables: their paths from the folder that all are in; recipes as they were typed."""
    if any(it.recipe is not None for it in candidates):
        return [it.name for it in candidates]
    return within_folder([Path(it.name) for it in candidates])[1]


def _heading(reference: Reference) -> RenderableType:
    texts = ", ".join(f"{text.name} ({text.chunks} chunks)" for text in reference.texts)
    facts = f"{texts}, {reference.positions:,} positions, context {reference.n_ctx}"
    if reference.counted is not None and not reference.counted.all():
        facts += ", answers only"
    title = Text(f"reference: {printable(reference.model)}", "bold")
    noise = "; the engine's noise wasn't measured: make the reference again"
    if reference.noise is not None:
        noise = f"; the engine's noise: KL divergence {reference.noise.mean:.1e}"
    return Paragraph(Text.assemble(title, (f"  {printable(facts)}{noise}", "dim")))


def _one(candidate: Candidate) -> RenderableType:
    title = Text(printable(candidate.name), "bold")
    size = f"  {bytes_text(candidate.nbytes)} · {candidate.bits_per_weight:.2f} bits per weight"
    return Group(Paragraph(Text.assemble(title, (size, "dim"))), figures_table(candidate))


def figures_table(candidate: Candidate) -> Table:
    """All figures of one file: a column for each text, and for all together; and where these lie."""
    parts = dict(candidate.texts)
    if len(parts) != 1:
        parts = {**parts, "all": candidate.all}
    ranges = {name: range_text(figure(candidate.intervals)) for name, figure in _INTERVALS.items()}
    sure = any(ranges.values())
    rows = [
        (
            name,
            *(figure(evaluation) for evaluation in parts.values()),
            *([ranges.get(name, "")] if sure else []),
        )
        for name, figure in _FIGURES.items()
    ]
    columns: dict[str, Kind] = {"": "word"}
    last = ("95 %",) if len(parts) == 1 else ("95 % of all",)
    return Table(columns | numbers(*parts, *(last if sure else ())), rows)


def side_by_side(
    candidates: Sequence[Candidate], names: Sequence[str], noise: Noise | None
) -> RenderableType:
    """A line for each of several files, what they are on each text, and what there is to say of them.

    noise: of the reference, None where it wasn't measured
    """
    has_recipes = any(it.recipe is not None for it in candidates)
    folder = "" if has_recipes else within_folder([Path(it.name) for it in candidates])[0]
    rows = [
        (
            name,
            bytes_text(it.nbytes),
            f"{it.bits_per_weight:.2f}",
            _with_error(it.all.kld_mean, it.all.kld_mean_error),
            "" if it.beside is None else change_text(Interval(value=it.beside.kld_mean.value)),
            _digits(it.all.kld_99),
            f"{100 * it.all.top1:.2f}",
            f"{it.all.perplexity:.3f}",
        )
        for name, it in zip(names, candidates, strict=True)
    ]
    columns: dict[str, Kind] = {"file": "name", **numbers("size", "bits/weight", "KL divergence")}
    columns |= numbers("against the first", "99th percentile", "same top-1 %", "perplexity")
    where = [Paragraph(f"files in {printable(folder)}", "dim")] if folder else []
    return Group(
        *where,
        Table(columns, rows),
        *_by_text(candidates, names),
        *render_verdicts(candidates, names, noise),
    )


def _by_text(candidates: Sequence[Candidate], names: Sequence[str]) -> list[RenderableType]:
    """The mean divergence on each text, if there are several: the files side by side, text after text."""
    texts = list(candidates[0].texts)
    if len(texts) < 2:
        return []
    rows = [
        (text, name, _with_error(it.texts[text].kld_mean, it.texts[text].kld_mean_error))
        for text in texts
        for name, it in zip(names, candidates, strict=True)
    ]
    return [Table({"text": "name", "file": "name", "KL divergence": "number"}, rows)]


def by_context_table(candidates: Sequence[Candidate], names: Sequence[str]) -> Table:
    """The mean divergence by tokens of context: the files side by side, part after part of a chunk."""
    rows = [
        (
            f"{bucket.first} to {bucket.last}",
            name,
            _digits(bucket.kld_mean.value),
            range_text(bucket.kld_mean),
        )
        for number in range(len(candidates[0].intervals.by_context))
        for name, bucket in zip(names, (it.intervals.by_context[number] for it in candidates), strict=True)
    ]
    columns: dict[str, Kind] = {"context": "word", "file": "name", **numbers("KL divergence", "95 %")}
    return Table(columns, rows)


def _with_error(value: float, error: float) -> str:
    """Two digits of the error, and as many of the value: "31.54 ± 0.47", "0.00250 ± 0.00011"."""
    places = 6 if error <= 0 else min(8, max(0, 1 - math.floor(math.log10(error))))
    return f"{value:.{places}f} ± {error:.{places}f}"


def _digits(value: float) -> str:
    return f"{value:#.3g}" if value >= 1e-3 else f"{value:.6f}"


def _percent(value: float, error: float) -> str:
    return f"{100 * value:.2f} ± {100 * error:.2f} %"


_FIGURES: dict[str, Callable[[Evaluation], str]] = {
    "perplexity": lambda e: _with_error(e.perplexity, e.perplexity_error),
    "  of the reference": lambda e: _with_error(e.reference_perplexity, e.reference_perplexity_error),
    "  ln of the ratio": lambda e: _with_error(e.log_ratio, e.log_ratio_error),
    "KL divergence, mean": lambda e: _with_error(e.kld_mean, e.kld_mean_error),
    "  median": lambda e: _digits(e.kld_median),
    "  90 %": lambda e: _digits(e.kld_90),
    "  95 %": lambda e: _digits(e.kld_95),
    "  99 %": lambda e: _digits(e.kld_99),
    "  99.9 %": lambda e: _digits(e.kld_999),
    "  largest": lambda e: _digits(e.kld_max),
    "top-1 agreement": lambda e: _percent(e.top1, e.top1_error),
    "Δp, root mean square": lambda e: _percent(e.dp_rms, e.dp_rms_error),
    "  mean": lambda e: _percent(e.dp_mean, e.dp_mean_error),
}

_INTERVALS: dict[str, Callable[[Intervals], Interval]] = {
    "perplexity": lambda it: it.perplexity,
    "KL divergence, mean": lambda it: it.kld_mean,
    "  99 %": lambda it: it.kld_99,
    "  99.9 %": lambda it: it.kld_999,
    "top-1 agreement": lambda it: _in_per_cent(it.top1),
}


def _in_per_cent(interval: Interval) -> Interval:
    low, high = (None if end is None else 100 * end for end in (interval.low, interval.high))
    return Interval(value=100 * interval.value, low=low, high=high)
