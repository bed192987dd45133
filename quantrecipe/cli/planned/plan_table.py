"""A plan as a person reads it: one line for tensors that are treated alike, then the totals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables import Cell, Kind, Paragraph, Table, numbers
from quantrecipe.cli.units import bytes_text, count_text, duration_text, loss_text, shape_text
from quantrecipe.plan.group import group, part_totals, totals
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.plan.plan_of import fallback_warnings
from quantrecipe.remote_files import held_memory
from quantrecipe.wording import some_of

if TYPE_CHECKING:
    from quantrecipe.output.apply import Result

__all__ = ["render_plan", "render_shared_warnings", "render_summary", "render_totals", "render_warnings"]

# Tables are told of apart where they are more than one part in so many of the data.
_MUCH = 8


def render_plan(plan: Plan, *, every_tensor: bool = False, warnings: bool = True) -> RenderableType:
    """The table of a plan; `every_tensor` gives each its own line. `warnings` False leaves them out."""
    parts: list[RenderableType] = [_every_tensor(plan) if every_tensor else _groups(plan)]
    parts += [_reasons(plan), Text()]
    if plan.coverage is not None:
        from quantrecipe.cli.planned.coverage_table import render_coverage

        parts += [render_coverage(plan.coverage), Text()]
    if plan.warnings and warnings:
        parts += [render_warnings(plan), Text()]
    parts.append(render_totals(plan))
    if slab := _slab(plan):
        parts.append(slab)
    if held := held_memory(plan.model.files):
        size = bytes_text(held)
        parts.append(
            Paragraph(f"llama.cpp's converter computes whole tensors: apply takes up to {size} more memory")
        )
    if plan.spending is not None:
        from quantrecipe.cli.planned.spending_table import render_spending

        parts.append(render_spending(plan.spending))
    return Lines(*parts)


def _slab(plan: Plan) -> RenderableType | None:
    """What it takes to transpose tensors while they are read, which is the one thing that grows with a model's rows."""
    slabs = [slab for source in plan.model.sources.values() if (slab := source.slab)]
    if not slabs:
        return None
    what = "1 tensor is" if len(slabs) == 1 else f"{len(slabs)} tensors are"
    # A thread works on one run of rows while another of its own waits to be written down in order.
    size = bytes_text(2 * max(slabs))
    return Paragraph(f"{what} transposed while apply reads: up to {size} more memory for each thread")


def render_warnings(plan: Plan) -> RenderableType:
    """The warnings of a plan, each a paragraph."""
    return Lines(*(Paragraph(f"! {printable(warning)}", "yellow") for warning in plan.warnings))


def render_shared_warnings(plans: Sequence[Plan]) -> RenderableType:
    """The warnings of several plans, each once, with the recipes that it is about."""
    about: dict[str, dict[str, None]] = {}
    for plan in plans:
        fallbacks = fallback_warnings(plan.assignments)
        # Which rule asked, and for how many tensors, differs from recipe to recipe; that it can't be had doesn't.
        said = [f"{a.wanted} → {a.type}, since {a.misfit}" for a in plan.assignments if a.wanted is not None]
        said += [warning for warning in plan.warnings if warning not in fallbacks]
        for text in said:
            about.setdefault(text, {})[plan.recipe] = None
    return Lines(
        *(
            Text(f"! {printable(text)} ({_recipes(list(names), len(plans))})", style="yellow")
            for text, names in about.items()
        )
    )


def _recipes(names: Sequence[str], count: int) -> str:
    if len(names) == count:
        return f"all {count} recipes"
    return printable(", ".join(names)) if len(names) <= 3 else f"{len(names)} of {count} recipes"


def render_summary(
    plans: Sequence[Plan], results: Sequence[Result], *, written: bool = True
) -> RenderableType:
    """What `apply` made, in what time, and what is unusual about it.

    written: the files are where they are to be, and named
    """
    first = results[0]
    seconds = f"in {duration_text(first.seconds)} with {first.threads} threads"
    if first.compile_seconds:
        seconds += (
            f", after {duration_text(first.compile_seconds)} of compiling kernels (only once on each machine)"
        )
    rate = f"{count_text((plans[0].size - first.left) / max(first.seconds, 1e-9))} weights/s"
    lines: list[RenderableType] = [render_totals(plans[0])] if len(plans) == 1 else [_outputs(plans, results)]
    for result in results:
        lines += [
            Paragraph(
                f"! {printable(name)}: {_not_finite(count)}, and 0 in {result.path if written else result.path.name}",
                "yellow",
            )
            for name, count in result.nonfinite.items()
        ]
        about: dict[str, list[str]] = {}
        for name, said in sorted(result.remarks.items()):
            for text in said:
                about.setdefault(text, []).append(name)
        lines += [
            Paragraph(f"! {printable(some_of(names, 2))}: {printable(text)}", "yellow")
            for text, names in about.items()
        ]
    if reused := sum(len(result.reused) for result in results):
        tensors = sum(len(plan.assignments) for plan in plans)
        lines.append(Paragraph(f"{reused} of {tensors} tensors copied from the old file"))
    if stored := sum(len(result.from_store) for result in results):
        tensors = sum(len(plan.assignments) for plan in plans)
        lines.append(Paragraph(f"{stored} of {tensors} tensors copied from the store"))
    lines += [Paragraph(f"! {printable(problem)}", "yellow") for problem in first.store_problems]
    if left := sum(result.left for result in results):
        share = left / max(1, sum(plan.size for plan in plans))
        lines.append(Paragraph(f"resumed: {share:.0%} was there from an interrupted run"))
    if first.differing:
        what = f"{some_of(first.differing, 2)}: the part had other bytes than its journal said, so made again"
        lines.append(Paragraph(f"! {printable(what)}", "yellow"))
    lines.append(Paragraph(f"{seconds}; {rate}"))
    paths = (path for result in results for path in result.paths if written)
    lines += [Text.assemble("wrote ", (printable(str(path)), "bold")) for path in paths]
    return Lines(*lines)


def _not_finite(count: int) -> str:
    return "1 weight is NaN or Inf" if count == 1 else f"{count} weights are NaN or Inf"


def _outputs(plans: Sequence[Plan], results: Sequence[Result]) -> Table:
    """A table with a line for each output."""
    rows = [
        (plan.recipe, f"{plan.bits_per_weight:.3f}", bytes_text(plan.nbytes), str(len(result.paths)))
        for plan, result in zip(plans, results, strict=True)
    ]
    return Table({"recipe": "name", **numbers("bits/weight", "size", "files")}, rows)


def render_totals(plan: Plan) -> RenderableType:
    """What each type takes, and the size of the file."""
    data = sum(a.nbytes for a in plan.assignments) or 1
    rows = [
        (
            total.type,
            str(total.tensors),
            count_text(total.weights),
            bytes_text(total.nbytes),
            f"{100 * total.nbytes / data:.1f}",
        )
        for total in totals(plan.assignments)
    ]
    columns = ("tensors", "weights", "size", "share %")
    summary = Text.assemble(
        (f"{bytes_text(plan.nbytes)}", "bold"),
        f" ({plan.nbytes:,} bytes), ",
        (f"{plan.bits_per_weight:.3f} bits per weight", "bold"),
        f", {count_text(plan.size)} weights in {len(plan.assignments)} tensors",
        f", {len(plan.files)} shards" if len(plan.files) > 1 else "",
    )
    parts: list[RenderableType] = [Table({"type": "word", **numbers(*columns)}, rows), Paragraph(summary)]
    if text := tables_text(plan):
        parts.append(Paragraph(text))
    return Lines(*parts)


def tables_text(plan: Plan) -> str:
    """What tables take by themselves, where they are much of the data: hardly any of that is read for a token."""
    tables, rest = part_totals(plan)
    if tables.nbytes * _MUCH < tables.nbytes + rest.nbytes:
        return ""
    share = 100 * tables.nbytes / (tables.nbytes + rest.nbytes)
    return (
        f"{bytes_text(tables.nbytes)} of it ({share:.0f} %) are tables of which a token reads a row, "
        f"{tables.bits_per_weight:.3f} bits per weight; without them {bytes_text(rest.nbytes)}, "
        f"{rest.bits_per_weight:.3f} bits per weight"
    )


def _groups(plan: Plan) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for g in group(plan.assignments):
        bits = f"{8 * g.nbytes / g.weights:.2f}" if g.weights else ""
        row = (g.role, g.layers, str(len(g.members)), _type(g.first), bits, bytes_text(g.nbytes))
        rows.append((*row, *_loss(plan, g.members), _reason(g.first)))
    columns: dict[str, Kind] = {"tensor": "name", "layers": "list", "count": "number", "type": "list"}
    columns |= {"bits/weight": "number", "size": "number", **_loss_column(plan), "decided by": "text"}
    return Table(columns, rows)


def _loss_column(plan: Plan) -> dict[str, Kind]:
    return {} if plan.spending is None else {"loss": "number"}


def _loss(plan: Plan, members: Sequence[Assignment]) -> list[str]:
    """A cell where types were chosen: what these lose together, empty where nobody chose."""
    if plan.spending is None:
        return []
    losses = [loss for a in members if (loss := plan.spending.losses.get(a.tensor.name)) is not None]
    return [loss_text(sum(losses)) if losses else ""]


def _reasons(plan: Plan) -> Table:
    """A table of what decided, each with its reason, once."""
    reasons = {a.because: a.why for a in plan.assignments if a.why}
    return Table(("text", "text"), [((because, "dim"), why) for because, why in reasons.items()])


def _every_tensor(plan: Plan) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for a in plan.assignments:
        source = (a.tensor.name, shape_text(a.tensor.shape), a.tensor.dtype)
        becomes = (_type(a), f"{a.bits_per_weight:.2f}", f"{a.nbytes:,}")
        rows.append((*source, *becomes, *_loss(plan, [a]), _reason(a)))
    columns: dict[str, Kind] = {"tensor": "name", "shape": "word", "from": "word", "type": "list"}
    columns |= {"bits/weight": "number", "bytes": "number", **_loss_column(plan), "decided by": "text"}
    return Table(columns, rows)


def _type(a: Assignment) -> Text:
    text = Text(a.type, style="bold" if not a.copied else "dim")
    if a.format.options:
        text.append(f" {dict(a.format.options)}", style="dim")
    if a.wanted is not None:
        text.append(f" instead of {a.wanted}", style="yellow")
    return text


def _reason(a: Assignment) -> Cell:
    return a.because, "dim" if a.copied else ""
