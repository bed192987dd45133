"""What `fit` found, as a person reads it: beside the presets, and rule by rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.planned.spending_table import render_spending
from quantrecipe.cli.tables import Cell, Paragraph, Table, numbers
from quantrecipe.cli.units import bytes_text, loss_text
from quantrecipe.fit import Fitted, Mix
from quantrecipe.fit.reasons import reason_text
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.plain_data import rounded_bits, significant

__all__ = ["fit_document", "render_fit"]

# Presets that are shown below the budget, and one above.
_NEAREST = 3
# Rules that fit on a screen below the comparison; the recipe has all of them.
_MOST_DECISIONS = 12

_NOT_TAKEN = "the mix that was found, and that the recipe is not:"


def render_fit(fitted: Fitted) -> RenderableType:
    """The comparison, the decisions, and what became of the budget."""
    return Lines(
        _comparison(fitted),
        *_left_out(fitted),
        *_search(fitted),
        _verdict(fitted),
        Text() if fitted.winner is None else Paragraph(_NOT_TAKEN, "dim"),
        _decisions(fitted),
        render_spending(fitted.spending),
    )


def fit_document(fitted: Fitted) -> dict[str, Any]:
    """What is printed of it, in this order."""
    plan = fitted.fitted_plan
    return {
        "recipe": fitted.text,
        "search": fitted.search,
        "trial": fitted.trial,
        "stock_wins": fitted.winner.name if fitted.winner else None,
        "nbytes": fitted.plan.nbytes,
        "bits_per_weight": rounded_bits(fitted.plan.bits_per_weight),
        "loss": significant(fitted.winner.loss if fitted.winner else fitted.loss),
        "fitted": {
            "nbytes": plan.nbytes,
            "bits_per_weight": rounded_bits(plan.bits_per_weight),
            "loss": significant(fitted.loss),
            "loss_at_worst": None if fitted.at_worst is None else significant(fitted.at_worst),
        },
        "budget": fitted.spending,
        "best_stock": fitted.best_rival.name if fitted.best_rival else None,
        "stock": [
            {
                "name": mix.name,
                "data_nbytes": mix.nbytes,
                "bits_per_weight": rounded_bits(mix.bits_per_weight),
                "loss": significant(mix.loss),
                "within_budget": mix in fitted.rivals,
            }
            for mix in fitted.stock
        ],
        "left_out": dict(fitted.left_out),
        "decisions": [
            {
                "tensors": [a.tensor.name for a in decision.members],
                "type": decision.reason.type,
                "nbytes": decision.reason.nbytes,
                "loss": significant(decision.reason.loss),
                "why": reason_text(decision.reason),
            }
            for decision in fitted.decisions
        ],
    }


def _comparison(fitted: Fitted) -> Table:
    """The fitted mix among the presets of about its size."""
    plan = fitted.fitted_plan
    mixes: list[tuple[int, str, float, float, str]] = [
        (mix.nbytes, mix.name, mix.bits_per_weight, mix.loss, "") for mix in _near(fitted)
    ]
    mixes.append(
        (sum(a.nbytes for a in plan.assignments), "fitted", plan.bits_per_weight, fitted.loss, "bold")
    )
    best = fitted.best_rival
    rows: list[tuple[Cell, ...]] = []
    for nbytes, name, bits, loss, style in sorted(mixes):
        against = f"{100 * (loss / best.loss - 1):+.1f} %" if best is not None and best.loss > 0 else ""
        cells = (name, bytes_text(nbytes), f"{bits:.3f}", loss_text(loss), against)
        rows.append(tuple((cell, style) for cell in cells))
    return Table({"mix": "name", **numbers("data", "bits/weight", "expected loss", "against the best")}, rows)


def _near(fitted: Fitted) -> Sequence[Mix]:
    """The best preset within the budget, the largest ones, and the next one that is too large."""
    within = list(fitted.rivals)
    shown = within[-_NEAREST:]
    if fitted.best_rival is not None and fitted.best_rival not in shown:
        shown.insert(0, fitted.best_rival)
    above = [
        mix
        for mix in fitted.stock
        if mix not in within and mix.nbytes > max((m.nbytes for m in within), default=0)
    ]
    return [*shown, *above[:1]]


def _left_out(fitted: Fitted) -> list[Paragraph]:
    """Lines on the presets that this model can't have, those with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for name, why in fitted.left_out.items():
        # Which tensors a preset fails at differs from one to the next; what it fails for doesn't.
        reason, _, _ = why.removeprefix(f"recipe {name!r} ").partition(": it has ")
        reasons.setdefault(reason, []).append(name)
    return [
        Paragraph(f"not compared, {printable(reason)}: {', '.join(names)}", "dim")
        for reason, names in reasons.items()
    ]


def _search(fitted: Fitted) -> list[Table | Paragraph]:
    """What was tried on the search text, in this order."""
    found = fitted.search
    if found is None:
        return []
    rows: list[tuple[Cell, ...]] = []
    for tried in found.tried:
        beside = "" if not tried.beside else f"{100 * tried.change / (tried.kld - tried.change):+.1f} %"
        error = "" if not tried.beside else f"{100 * tried.error / (tried.kld - tried.change):.1f} %"
        if found.target:
            what = "within" if tried.within else "too much"
        else:
            what = "kept" if tried.kept else "" if tried.within else "a question"
        cells = (
            printable(tried.what),
            bytes_text(tried.nbytes),
            loss_text(tried.expected),
            f"{tried.kld:.4g}",
            beside,
            error,
            what,
        )
        rows.append(tuple((cell, "bold" if tried.kept else "") for cell in cells))
    columns = {"tried": "name", **numbers("data", "expected", "measured", "to the best so far", "±")}
    return [
        Table({**columns, "": "word"}, rows),
        Paragraph(f"tried on {printable(found.text)} ({found.positions:,} positions): {found.ended}"),
    ]


def _verdict(fitted: Fitted) -> Paragraph:
    best = fitted.best_rival
    if fitted.trial is not None:
        said = f"tried {fitted.trial}" + ("; so the recipe is that preset" if fitted.winner else "")
        return Paragraph(said, "yellow" if fitted.winner else "")
    tried = fitted.search
    if tried is not None and tried.target:
        amount = f"{100 * tried.value:+.2f} %" if tried.target == "perplexity" else f"{tried.value:.4g}"
        said = f"{tried.target} on the search text: {amount} (± {tried.error:.1g})"
        if fitted.winner is not None:
            said += f"; the preset {fitted.winner.name} is smaller and stays within it, too: the recipe is that preset"
        return Paragraph(said, "yellow" if fitted.winner or tried.value > tried.most else "")
    if fitted.spending.kld is not None:
        said = "nothing was measured on a text, so it may lose more or less: --text measures it"
        if fitted.winner is not None:
            said = (
                f"no smaller mix than the preset {fitted.winner.name} is expected to lose so little; {said}"
            )
        return Paragraph(said, "yellow")
    if best is None:
        return Paragraph("no preset keeps these limits")
    if (found := fitted.search) is not None and found.preset_kld:
        change, error = (100 * it / found.preset_kld for it in (found.change, found.error))
        said = (
            f"on the search text, the best mix diverges by {found.kld:.4g}, the preset {found.preset} by "
            f"{found.preset_kld:.4g} ({change:+.1f} ± {error:.1f} %)"
        )
        if fitted.winner is not None:
            return Paragraph(f"{said}: nothing is surely better, so the recipe is that preset", "yellow")
        return Paragraph(said)
    if fitted.winner is not None:
        return Paragraph(
            f"nothing was found that surely loses less than the preset {best.name}, so the recipe is that preset",
            "yellow",
        )
    less = _less(fitted.loss, best)
    said = f"{less} less loss is expected than of {best.name}, the best preset within the same limits"
    if fitted.at_worst is None:
        return Paragraph(said)
    return Paragraph(
        f"{said}, and {_less(fitted.at_worst, best)} if usual values are as wrong as they may be. That is no promise: "
        "how much tensors matter wasn't measured on this model; --text does it",
        "yellow",
    )


def _less(loss: float, best: Mix) -> str:
    return f"{100 * (1 - loss / best.loss) if best.loss > 0 else 0.0:.0f} %"


def _decisions(fitted: Fitted) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for decision in fitted.decisions[:_MOST_DECISIONS]:
        roles = ", ".join(dict.fromkeys(a.tensor.role for a in decision.members))
        layers = layer_ranges(a.tensor.layer for a in decision.members if a.tensor.layer is not None)
        size, why = bytes_text(decision.reason.nbytes), reason_text(decision.reason)
        rows.append((roles, layers, (decision.reason.type, "bold"), size, why))
    if (rest := len(fitted.decisions) - _MOST_DECISIONS) > 0:
        rows.append(((f"… {rest} more rules", "dim"), "", "", "", ""))
    return Table({"tensor": "list", "layers": "list", "type": "word", "size": "number", "why": "text"}, rows)
