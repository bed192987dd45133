"""What `imatrix compute --gram` and `imatrix show FOLDER` say of Gram matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Unpack

from rich.console import Group, RenderableType
from rich.text import Text

from quantrecipe.api import Executor
from quantrecipe.calibration import CalibrationSettings, Prepared, Ran, WorkerNote
from quantrecipe.calibration.gram import Behind, Experts, GramEntry, GramPlan, Grams, compute_gram
from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import print_note, print_warning, printable
from quantrecipe.cli.imatrix.statistics_table import render_provenance
from quantrecipe.cli.progress import CalibrationBar
from quantrecipe.cli.tables import Cell, Kind, Paragraph, Table, numbers
from quantrecipe.cli.units import bytes_text, counted, duration_text, unit_of
from quantrecipe.engine import RunOptions
from quantrecipe.errors import Problem
from quantrecipe.importance.provenance import Provenance
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.tensor import split_name
from quantrecipe.texts import Domain, Rendered
from quantrecipe.wording import some_of

__all__ = ["gram_document", "render_grams", "write_grams"]

_SHOWN = 3


def write_grams(
    ctx: Context,
    say: Callable[[str], None],
    model: Path,
    domains: Sequence[tuple[Domain, Sequence[Rendered]]],
    folder: Path,
    settings: CalibrationSettings,
    *,
    experts: Experts,
    layers: int | None,
    origin: Provenance,
    behind: Behind | None = None,
    executor: Executor | None = None,
    memory: int = 0,
    **running: Unpack[RunOptions],
) -> Grams:
    """Compute them, and say before what that takes, and after what came of it. Others as for `compute_gram`."""
    planned: list[GramPlan] = []
    with CalibrationBar(ctx.err) as bar:
        bar.say("loading the model")

        def hear(what: Prepared | GramPlan | Ran | GramEntry | WorkerNote) -> None:
            match what:
                case GramPlan():
                    planned.append(what)
                    say(_before(what))
                    if what.singular:
                        _warn_of_few(ctx, [(it.name, it.columns) for it in what.singular], what.tokens)
                    bar.start(what.tokens * len(what.passes))
                case Ran(tokens=tokens):
                    bar.read(tokens)
                case WorkerNote(what=text):
                    print_note(ctx.err, Problem(what=printable(text)))
                case _:
                    pass

        grams = compute_gram(
            model,
            domains,
            folder,
            settings,
            experts=experts,
            layers=layers,
            origin=origin,
            behind=behind,
            hear=hear,
            executor=executor,
            memory=memory,
            **running,
        )
    if not planned:
        say(f"{printable(str(grams.folder))}: all is there already, of this model and these texts")
        return grams
    entries = grams.index.inputs
    size = bytes_text(sum(it.nbytes for it in entries))
    say(f"{printable(str(grams.folder))}: {counted(len(entries), 'input')}, {size}")
    few = [it for it in entries if it.singular and len(it.tokens) > 1]
    if few:
        count, least = sum(it.singular for it in few), min(it.rank_at_most for it in few)
        what = (
            f"the Gram matrices of {counted(count, 'expert')} are singular, as fewer tokens than columns reached them "
            f"(from {least:,} on): {some_of([it.name for it in few], _SHOWN)}"
        )
        print_warning(ctx.err, what, "more text, or more damping where they are used")
    return grams


def gram_document(grams: Grams) -> dict[str, object]:
    """For --json."""
    index = grams.index
    return {
        "folder": grams.folder,
        "digest": index.digest,
        "experts": index.experts,
        "nbytes": sum(it.nbytes for it in index.inputs),
        "behind": index.behind,
        "provenance": index.provenance,
        "inputs": [
            {
                "name": it.name,
                "weights": it.weights,
                "columns": it.columns,
                "matrices": it.matrices,
                "tokens": it.tokens,
                "rank_at_most": it.rank_at_most,
                "singular": it.singular,
            }
            for it in index.inputs
        ],
    }


def render_grams(grams: Grams, *, all_: bool) -> RenderableType:
    """What a folder says of itself, and a line for inputs of one kind in all layers, or for each."""
    index = grams.index
    size = sum(it.nbytes for it in index.inputs)
    facts = [f"Gram matrices of {counted(len(index.inputs), 'input')}", bytes_text(size)]
    if any("_exps" in weight for it in index.inputs for weight in it.weights):
        facts.append("one for each expert" if index.experts == "each" else "one for all experts of a tensor")
    if index.behind:
        facts.append(f"behind {index.behind}")
    title = Text(printable(grams.folder.name), "bold")
    groups: dict[tuple[str, str, int, int], list[GramEntry]] = {}
    for it in index.inputs:
        roles = ", ".join(split_name(weight)[1] for weight in it.weights)
        groups.setdefault((it.name if all_ else "", roles, it.columns, it.matrices), []).append(it)
    unit, unit_size = unit_of(max((it.nbytes for it in index.inputs), default=0))
    rows: list[tuple[Cell, ...]] = []
    for (_, roles, columns, matrices), entries in groups.items():
        layers = [layer for it in entries if (layer := split_name(it.name)[0]) is not None]
        tokens = [count for it in entries for count in it.tokens]
        singular = sum(it.singular for it in entries)
        rows.append(
            (
                roles,
                layer_ranges(layers),
                f"{columns:,}",
                f"{matrices:,}",
                _between(min(tokens), max(tokens)),
                Text(f"{singular:,}" if singular else "", "yellow"),
                f"{sum(it.nbytes for it in entries) / unit_size:,.2f}",
            )
        )
    kinds: dict[str, Kind] = {"input of": "list", "layers": "list"}
    kinds |= numbers("columns", "matrices", "tokens", "singular", unit)
    return Group(
        Paragraph(Text.assemble(title, (f"  {printable(' · '.join(facts))}", "dim"))),
        render_provenance(index.provenance),
        Table(kinds, rows),
    )


def _before(plan: GramPlan) -> str:
    left = len(plan.inputs) - len(plan.done)
    done = f"; {len(plan.done)} are finished already" if plan.done else ""
    experts = sum(it.nbytes for it in plan.inputs if it.by_expert and it.name not in plan.done)
    of_experts = f", of which experts have {bytes_text(experts)}" if experts else ""
    each, by = (" for each worker", f" by {counted(plan.workers, 'worker')}") if plan.workers else ("", "")
    return (
        f"Gram matrices of {counted(left, 'input')}{done}: {bytes_text(plan.nbytes)} on the disk{of_experts}, "
        f"{bytes_text(plan.memory)} of memory besides the model's{each}, "
        f"{counted(len(plan.passes), 'pass', 'passes')} over the texts{by}, about {duration_text(plan.seconds)}"
    )


def _warn_of_few(ctx: Context, inputs: Sequence[tuple[str, int]], tokens: int) -> None:
    most = max(columns for _, columns in inputs)
    what = (
        f"the Gram matrices of {counted(len(inputs), 'input')} will be singular: {tokens:,} tokens, and up to {most:,} "
        f"columns ({some_of([name for name, _ in inputs], _SHOWN)})"
    )
    print_warning(ctx.err, what, f"give at least {most:,} tokens; several times as many are better")


def _between(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"
