"""The figures of `eval` as a person reads them: one file in full, several in a line each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.eval_results import Candidate
from quantrecipe.cli.units import bytes_text
from quantrecipe.evaluate import Evaluation, Reference

__all__ = ["render"]


def render(candidates: Sequence[Candidate], reference: Reference) -> RenderableType:
    """A heading on the reference, and a table."""
    heading = _heading(reference)
    if not candidates:
        return heading
    return Group(heading, _one(candidates[0]) if len(candidates) == 1 else _several(candidates))


def _heading(reference: Reference) -> RenderableType:
    texts = ", ".join(f"{text.name} ({text.chunks} chunks)" for text in reference.texts)
    positions = reference.chunks * reference.scored
    facts = f"{texts}, {positions:,} positions, context {reference.n_ctx}"
    title = Text(f"reference: {printable(reference.model)}", "bold")
    return title.append(Text(f"  {printable(facts)}", "not bold dim"))


def _one(candidate: Candidate) -> RenderableType:
    parts = dict(candidate.texts)
    if len(parts) != 1:
        parts = {**parts, "all": candidate.all}
    table = _table("", *parts)
    for name, figure in _FIGURES.items():
        table.add_row(name, *(figure(evaluation) for evaluation in parts.values()))
    title = Text(printable(str(candidate.path)), "bold")
    size = f"  {bytes_text(candidate.nbytes)} · {candidate.bits_per_weight:.2f} bits per weight"
    return Group(title.append(Text(size, "not bold dim")), table)


def _several(candidates: Sequence[Candidate]) -> RenderableType:
    table = _table("file", "size", "bpw", "perplexity", "KLD", "99 %", "top-1 %", "than the first")
    for candidate in candidates:
        all_ = candidate.all
        table.add_row(
            Text(printable(candidate.path.name)),
            bytes_text(candidate.nbytes),
            f"{candidate.bits_per_weight:.2f}",
            f"{all_.perplexity:.3f}",
            _with_error(all_.kld_mean, all_.kld_mean_error),
            _digits(all_.kld_99),
            f"{100 * all_.top1:.2f}",
            "" if candidate.change is None else _change(*candidate.change),
        )
    return Group(table, *_by_text(candidates))


def _by_text(candidates: Sequence[Candidate]) -> list[RenderableType]:
    """The mean divergence on each text, if there are several."""
    texts = list(candidates[0].texts)
    if len(texts) < 2:
        return []
    table = _table("KLD on", *texts)
    for candidate in candidates:
        figures = (candidate.texts[text] for text in texts)
        table.add_row(
            Text(printable(candidate.path.name)),
            *(_with_error(figure.kld_mean, figure.kld_mean_error) for figure in figures),
        )
    return [table]


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(
            Text(printable(column)), justify="left" if number == 0 else "right", no_wrap=number > 0
        )
    return table


def _with_error(value: float, error: float) -> str:
    """Two digits of the error, and as many of the value: "31.54 ± 0.47", "0.00250 ± 0.00011"."""
    places = 6 if error <= 0 else min(8, max(0, 1 - math.floor(math.log10(error))))
    return f"{value:.{places}f} ± {error:.{places}f}"


def _digits(value: float) -> str:
    return f"{value:#.3g}" if value >= 1e-3 else f"{value:.6f}"


def _percent(value: float, error: float) -> str:
    return f"{100 * value:.2f} ± {100 * error:.2f} %"


def _change(value: float, error: float) -> str:
    if value > 1:
        return f"{1 + value:.1f} ×"
    return f"{100 * value:+.1f} ± {100 * error:.1f} %"


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
