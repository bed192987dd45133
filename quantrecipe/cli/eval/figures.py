"""The figures of `eval` as a person reads them: one file in full, several in a line each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.eval.candidates import Candidate
from quantrecipe.cli.tables import Kind, Paragraph, Table, numbers, within_folder
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
    return Paragraph(Text.assemble(title, (f"  {printable(facts)}", "dim")))


def _one(candidate: Candidate) -> RenderableType:
    parts = dict(candidate.texts)
    if len(parts) != 1:
        parts = {**parts, "all": candidate.all}
    rows = [
        (name, *(figure(evaluation) for evaluation in parts.values())) for name, figure in _FIGURES.items()
    ]
    columns: dict[str, Kind] = {"": "word"}
    table = Table(columns | numbers(*parts), rows)
    title = Text(printable(str(candidate.path)), "bold")
    size = f"  {bytes_text(candidate.nbytes)} · {candidate.bits_per_weight:.2f} bits per weight"
    return Group(Paragraph(Text.assemble(title, (size, "dim"))), table)


def _several(candidates: Sequence[Candidate]) -> RenderableType:
    folder, names = within_folder([candidate.path for candidate in candidates])
    rows = [
        (
            name,
            bytes_text(it.nbytes),
            f"{it.bits_per_weight:.2f}",
            _with_error(it.all.kld_mean, it.all.kld_mean_error),
            "" if it.change is None else _change(*it.change),
            _digits(it.all.kld_99),
            f"{100 * it.all.top1:.2f}",
            f"{it.all.perplexity:.3f}",
        )
        for name, it in zip(names, candidates, strict=True)
    ]
    columns: dict[str, Kind] = {"file": "name", **numbers("size", "bits/weight", "KL divergence")}
    columns |= numbers("against the first", "99th percentile", "same top-1 %", "perplexity")
    where = [Paragraph(f"files in {printable(folder)}", "dim")] if folder else []
    return Group(*where, Table(columns, rows), *_by_text(candidates, names))


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
