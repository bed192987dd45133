"""The section of a report on what running the models said: figures, by text, by position, and tails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quantrecipe.cli.eval.candidates import Candidate
from quantrecipe.cli.eval.figures import by_context_table, figures_table, names_of, side_by_side
from quantrecipe.cli.pictures.inline import inline_svg
from quantrecipe.cli.report.evaluations import Evaluated
from quantrecipe.cli.report.figures import draw_by_context, draw_by_text, draw_tails
from quantrecipe.cli.report.frame import Section, facts_html, figure_html, text
from quantrecipe.cli.tables import Kind, Table, numbers
from quantrecipe.cli.tables.markup import html_of

__all__ = ["evaluation_section"]

_TAILS: Mapping[str, str] = {
    "median": "kld_median",
    "90 %": "kld_90",
    "95 %": "kld_95",
    "99 %": "kld_99",
    "99.9 %": "kld_999",
    "largest": "kld_max",
}


def evaluation_section(found: Sequence[Evaluated], own: Sequence[Candidate | None]) -> Section:
    """What running the models said. own: the evaluation of the subject in each, None where it has none."""
    parts = []
    for number, (evaluated, ours) in enumerate(zip(found, own, strict=True)):
        parts.append(_evaluation(evaluated, ours, f"eval-{number}", heading=len(found) > 1))
    return Section(ident="evaluation", title="Evaluation", body="\n".join(parts))


def _evaluation(it: Evaluated, ours: Candidate | None, key: str, *, heading: bool) -> str:
    candidates = [*([ours] if ours is not None else []), *(c for c in it.candidates if c is not ours)]
    names = names_of(candidates)
    texts = ", ".join(f"{one.name} ({one.chunks} chunks)" for one in it.texts)
    parts = [f"<h3>{text(it.path.name)}</h3>"] if heading else []
    parts.append(
        facts_html(
            [
                ("compared with", it.reference),
                ("on", texts),
                ("positions", f"{it.positions:,}, contexts of {it.n_ctx:,} tokens"),
                ("noise of the engine", "" if it.noise is None else f"KL divergence {it.noise.mean:.1e}"),
                ("this file", names[0] if ours is not None else "isn't among the files that were evaluated"),
            ]
        )
    )
    if len(candidates) > 1:  # in the order of the run: all are compared with the first one
        beside = side_by_side(it.candidates, names_of(it.candidates), it.noise)
        parts.append(html_of(beside, caption="The files beside each other"))
    if ours is not None or len(candidates) == 1:
        parts.append(
            html_of(figures_table(candidates[0]), caption=f"All figures of {names[0]}", row_headings=True)
        )
    drawings = [
        ("tails", draw_tails(candidates, names), "Tails: how far the worst positions are off."),
        ("texts", draw_by_text(candidates, names), "By text: the mean, and where it lies with 95 %."),
    ]
    if any(len(one.intervals.by_context) > 1 for one in candidates):
        drawings.append(
            (
                "context",
                draw_by_context(candidates, names),
                "By position: the mean, by the tokens that stand before.",
            )
        )
    for name, figure, caption in drawings:
        parts.append(
            figure_html(inline_svg(figure, f"{key}-{name}", f"{caption} Tables have the same."), caption)
        )
    parts.append(
        html_of(_tails_table(candidates, names), caption="Quantiles of the KL divergence", row_headings=True)
    )
    if any(one.intervals.by_context for one in candidates):
        parts.append(html_of(by_context_table(candidates, names), caption="By tokens of context"))
    return "\n".join(parts)


def _tails_table(candidates: Sequence[Candidate], names: Sequence[str]) -> Table:
    rows = [
        (name, *(f"{getattr(it.all, key):#.3g}" for key in _TAILS.values()))
        for name, it in zip(names, candidates, strict=True)
    ]
    columns: dict[str, Kind] = {"file": "name"}
    return Table(columns | numbers(*_TAILS), rows)
