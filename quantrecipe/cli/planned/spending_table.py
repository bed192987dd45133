"""What became of a budget, as a person reads it."""

from __future__ import annotations

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from quantrecipe.cli.tables import Paragraph, Table, numbers
from quantrecipe.cli.units import bytes_text, loss_text
from quantrecipe.plan.spending import Spending, Spent

__all__ = ["render_spending"]

_WHAT = {
    "size": "size of the file",
    "bpw": "data, as bits per weight allow",
    "vram": "memory of the GPU",
    "ram": "weights in main memory",
    "active": "weights read for each token",
    "tables": "tables that tokens look up",
    "without_tables": "all but those tables",
    "speed": "time of a token",
}


def render_spending(spending: Spending) -> RenderableType:
    """The limits, the loss that is expected, and what more would buy."""
    rows = [
        (
            _WHAT[spent.key],
            *(_amount(spent, each) for each in (spent.most, spent.used, spent.most - spent.used)),
            f"+{_amount(spent, spent.more)}",
            loss_text(spent.gain),
        )
        for spent in spending.limits
    ]
    said = Text.assemble(
        "expected loss ",
        (loss_text(spending.loss), "bold"),
        "" if spending.kld is None else f" of at most {loss_text(spending.kld)}",
        f" (KL divergence in nats, by {spending.source})",
        f"; another choice could be {100 * spending.gap:.2g} % better at most" if spending.gap > 0 else "",
    )
    if not rows:
        return Paragraph(said)
    return Lines(
        Table({"limit": "list", **numbers("allowed", "used", "left", "a bit more", "would save")}, rows),
        Paragraph(said),
    )


def _amount(spent: Spent, amount: int) -> str:
    """A size; of the limit that is about speed, a time."""
    return bytes_text(amount) if spent.key != "speed" else f"{amount / 1e6:.3g} ms"
