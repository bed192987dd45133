"""A plan as a person reads it: one line for tensors that are treated alike, then the totals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from quantrecipe.cli.coverage import render_coverage
from quantrecipe.cli.errors import printable
from quantrecipe.cli.spending_table import loss_text, render_spending
from quantrecipe.cli.units import bytes_text, count_text, duration_text
from quantrecipe.plan.group import group, totals
from quantrecipe.plan.plan import Assignment, Plan

if TYPE_CHECKING:
    from quantrecipe.output.apply import Result

__all__ = ["render_plan", "render_summary", "render_totals", "render_warnings"]


def render_plan(plan: Plan, *, every_tensor: bool = False) -> RenderableType:
    """The table of a plan; `every_tensor` gives each its own line."""
    parts: list[RenderableType] = [_every_tensor(plan) if every_tensor else _groups(plan)]
    parts += [_reasons(plan), Text()]
    if plan.coverage is not None:
        parts += [render_coverage(plan.coverage), Text()]
    if plan.warnings:
        parts += [render_warnings(plan), Text()]
    parts.append(render_totals(plan))
    if plan.spending is not None:
        parts.append(render_spending(plan.spending))
    return Lines(*parts)


def render_warnings(plan: Plan) -> RenderableType:
    """What deserves a look before the work starts."""
    return Lines(*(Text(f"! {printable(warning)}", style="yellow") for warning in plan.warnings))


def render_summary(plans: Sequence[Plan], results: Sequence[Result]) -> RenderableType:
    """What `apply` did."""
    first = results[0]
    seconds = f"in {duration_text(first.seconds)} with {first.threads} threads"
    if first.compile_seconds:
        seconds += (
            f", after {duration_text(first.compile_seconds)} of compiling kernels (only once on each machine)"
        )
    rate = f"{count_text(plans[0].size / max(first.seconds, 1e-9))} weights/s"
    lines: list[RenderableType] = [render_totals(plans[0])] if len(plans) == 1 else [_outputs(plans, results)]
    for result in results:
        lines += [
            Text(f"! {printable(name)}: {_not_finite(count)}, and 0 in {result.path}", style="yellow")
            for name, count in result.nonfinite.items()
        ]
    if reused := sum(len(result.reused) for result in results):
        tensors = sum(len(plan.assignments) for plan in plans)
        lines.append(Text(f"{reused} of {tensors} tensors copied from the old file"))
    lines.append(Text(f"{seconds}; {rate}"))
    if len(plans) == 1:
        lines += [Text.assemble("wrote ", (printable(str(path)), "bold")) for path in first.paths]
    return Lines(*lines)


def _not_finite(count: int) -> str:
    return "1 weight is NaN or Inf" if count == 1 else f"{count} weights are NaN or Inf"


def _outputs(plans: Sequence[Plan], results: Sequence[Result]) -> Table:
    """A line for each output."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("bits per weight", justify="right")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("file", overflow="fold")
    for plan, result in zip(plans, results, strict=True):
        files = printable(str(result.path)) + (
            f" … {len(result.paths)} shards" if len(result.paths) > 1 else ""
        )
        table.add_row(
            printable(plan.recipe), f"{plan.bits_per_weight:.3f}", bytes_text(plan.nbytes), Text(files)
        )
    return table


def render_totals(plan: Plan) -> RenderableType:
    """What each type takes, and the size of the file."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("type", "tensors", "weights", "size", "share"):
        table.add_column(heading, justify="left" if heading == "type" else "right", no_wrap=True)
    data = sum(a.nbytes for a in plan.assignments) or 1
    for total in totals(plan.assignments):
        share = f"{100 * total.nbytes / data:.1f} %"
        table.add_row(
            total.type, str(total.tensors), count_text(total.weights), bytes_text(total.nbytes), share
        )
    summary = Text.assemble(
        (f"{bytes_text(plan.nbytes)}", "bold"),
        f" ({plan.nbytes:,} bytes), ",
        (f"{plan.bits_per_weight:.3f} bits per weight", "bold"),
        f", {count_text(plan.size)} weights in {len(plan.assignments)} tensors",
        f", {len(plan.files)} shards" if len(plan.files) > 1 else "",
    )
    return Lines(table, summary)


def _groups(plan: Plan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("tensor", no_wrap=True)
    table.add_column("layers", max_width=24)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("bits", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    if plan.spending is not None:
        table.add_column("loss", justify="right", no_wrap=True)
    table.add_column("decided by", overflow="fold")
    for g in group(plan.assignments):
        bits = f"{8 * g.nbytes / g.weights:.2f}" if g.weights else ""
        row = (printable(g.role), g.layers, str(len(g.members)), _type(g.first), bits, bytes_text(g.nbytes))
        table.add_row(*row, *_loss(plan, g.members), _reason(g.first))
    return table


def _loss(plan: Plan, members: Sequence[Assignment]) -> list[str]:
    """A cell where types were chosen: what these lose together, empty where nobody chose."""
    if plan.spending is None:
        return []
    losses = [loss for a in members if (loss := plan.spending.losses.get(a.tensor.name)) is not None]
    return [loss_text(sum(losses)) if losses else ""]


def _reasons(plan: Plan) -> Table:
    """What decided, and its reason, each once."""
    reasons = {a.because: a.why for a in plan.assignments if a.why}
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for because, why in reasons.items():
        table.add_row(Text(printable(because), style="dim"), Text(printable(why)))
    return table


def _every_tensor(plan: Plan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("tensor", no_wrap=True)
    table.add_column("shape", no_wrap=True)
    table.add_column("from", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("bits", justify="right", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    if plan.spending is not None:
        table.add_column("loss", justify="right", no_wrap=True)
    table.add_column("decided by", overflow="fold")
    for a in plan.assignments:
        shape = " × ".join(str(n) for n in a.tensor.shape)
        row = (
            printable(a.tensor.name),
            shape,
            a.tensor.dtype,
            _type(a),
            f"{a.bits_per_weight:.2f}",
            f"{a.nbytes:,}",
        )
        table.add_row(*row, *_loss(plan, [a]), _reason(a))
    return table


def _type(a: Assignment) -> Text:
    text = Text(a.type, style="bold" if not a.copied else "dim")
    if a.format.options:
        text.append(f" {dict(a.format.options)}", style="dim")
    if a.wanted is not None:
        text.append(f" instead of {a.wanted}", style="yellow")
    return text


def _reason(a: Assignment) -> Text:
    return Text(printable(a.because), style="dim" if a.copied else "")
