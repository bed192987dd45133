"""Report: everything that a page is made of, as a value; and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantrecipe import __version__
from quantrecipe.allocate.front import Point
from quantrecipe.cli.planned.spending_table import render_spending
from quantrecipe.cli.report.estimates import Estimate, Mix
from quantrecipe.cli.report.evaluation_section import evaluation_section
from quantrecipe.cli.report.evaluations import Evaluated
from quantrecipe.cli.report.frame import facts_html, page_html, paragraphs
from quantrecipe.cli.report.maps import losses_section, types_section
from quantrecipe.cli.report.rules import recipe_section
from quantrecipe.cli.report.sections import (
    bytes_section,
    differences_section,
    front_section,
    importance_section,
    provenance_section,
)
from quantrecipe.cli.report.subject import Subject
from quantrecipe.cli.tables.markup import html_of
from quantrecipe.cli.units import bytes_text, count_text, counted, loss_text
from quantrecipe.gguf.values import metadata_text
from quantrecipe.plan.review.diff import PlanDiff
from quantrecipe.plan.review.sides import Side

__all__ = ["Report", "report_html"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a page is about, and all that is shown beside it.

    path:     of the model, or of the file
    estimate: what the subject is expected to lose
    other:    what it is compared with, and what that is expected to lose
    diff:     from the other one to the subject
    stock, best: other mixes of the model, and the best that sizes allow
    found:    evaluations, all of this model
    runs:     what it takes where it runs, as HTML
    """

    subject: Subject
    path: Path
    estimate: Estimate
    stock: Sequence[Mix]
    best: Sequence[Point]
    other: tuple[Subject, Estimate] | None = None
    diff: PlanDiff | None = None
    found: Sequence[Evaluated] = ()
    runs: str = ""


def report_html(report: Report) -> str:
    """The page. OutputError where matplotlib isn't installed."""
    subject, side = report.subject, report.subject.side
    own = [it.of(side) for it in report.found]
    sections = [
        types_section(side),
        losses_section(side, report.estimate.losses, report.estimate.source, prior=report.estimate.prior),
        bytes_section(side),
        front_section(_sides(report), report.stock, report.best, _measured(report)),
        differences_section(report.diff) if report.diff is not None else None,
        recipe_section(subject),
        evaluation_section(report.found, own) if report.found else None,
        importance_section(subject),
        provenance_section(subject, report.path, __version__),
    ]
    foot = f"<p>Made by quantrecipe {__version__}. This page needs no network and runs no program.</p>"
    return page_html(_title(report), _intro(report), [it for it in sections if it is not None], foot)


def _title(report: Report) -> str:
    label = Path(report.subject.side.label).name
    if report.subject.plan is None:
        return label if report.other is None else f"{label}, beside {Path(report.other[0].side.label).name}"
    return f"{report.subject.plan.recipe} on {report.path.name}"


def _intro(report: Report) -> str:
    subject, side = report.subject, report.subject.side
    model, plan = subject.model, report.subject.plan
    layers = counted(model.n_layers, "layer") if model.n_layers else ""
    loss = f"{loss_text(report.estimate.total)} nats of KL divergence"
    loss += (
        ", by typical values: nobody measured this model"
        if report.estimate.prior
        else ", by the sensitivity file"
    )
    facts = [
        ("what it is", "a plan: the file isn't made yet" if plan is not None else "a file"),
        ("model", metadata_text(model.metadata, "general.name")),
        ("architecture", model.arch),
        ("size", f"{bytes_text(side.nbytes)} ({side.nbytes:,} bytes)"),
        ("bits per weight", f"{side.bits_per_weight:.3f}"),
        (
            "weights",
            f"{count_text(side.weights)} in {counted(len(side.tensors), 'tensor')}"
            + (f", {layers}" if layers else ""),
        ),
        ("expected loss", loss),
        *_said(report),
    ]
    notes = [*subject.notes]
    if report.estimate.unknown:
        notes.append(
            f"{len(report.estimate.unknown)} tensors are of types that aren't known here; they count no loss"
        )
    if report.estimate.prior and not model.n_blocks:
        notes.append(
            "typical losses are those of language models' layers, and this has none: they say little here"
        )
    parts = [facts_html(facts), paragraphs(notes, note=True)]
    if plan is not None and plan.spending is not None:
        parts.append(
            html_of(render_spending(plan.spending), caption="What became of the budget", row_headings=True)
        )
    return "\n".join(filter(None, [*parts, report.runs]))


def _said(report: Report) -> list[tuple[str, str]]:
    """What evaluations say of the subject, in a line each."""
    return [
        (
            "measured loss",
            f"{own.all.kld_mean:.3g} ± {own.all.kld_mean_error:.1g} nats, same likeliest token at "
            f"{100 * own.all.top1:.2f} % ({it.path.name})",
        )
        for it in report.found
        if (own := it.of(report.subject.side)) is not None
    ]


def _sides(report: Report) -> Mapping[str, tuple[Side, Estimate]]:
    subject = report.subject
    sides = {_name(subject): (subject.side, report.estimate)}
    if report.other is not None:
        other, estimate = report.other
        sides.setdefault(f"{_name(other)}", (other.side, estimate))
    return sides


def _name(subject: Subject) -> str:
    return Path(subject.side.label).name if subject.plan is None else subject.plan.recipe


def _measured(report: Report) -> dict[str, tuple[int, float, float]]:
    """By name: size, mean divergence and its standard error of every file that was evaluated."""
    found: dict[str, tuple[int, float, float]] = {}
    for it in report.found:
        own = it.of(report.subject.side)
        for one in it.candidates:
            name = _name(report.subject) if one is own else Path(one.name).name
            found.setdefault(name, (one.nbytes, one.all.kld_mean, one.all.kld_mean_error))
    return found
