"""`--verify` of `apply` and `refine`: the file of an encoder is kept where it is better than plain encoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from quantrecipe.cli.apply_progress import apply_progress
from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.options.texts import texts_of
from quantrecipe.cli.output_files import check_folder
from quantrecipe.cli.planned.planning import Planned
from quantrecipe.cli.progress import EvalBar
from quantrecipe.cli.tables import Paragraph
from quantrecipe.plan.statistics import require_statistics
from quantrecipe.recipe.writing.without_encoders import without_encoders
from quantrecipe.texts import read_domains

if TYPE_CHECKING:
    from quantrecipe.evaluate import Text as Held
    from quantrecipe.plan.plan import Plan
    from quantrecipe.recipe.recipe import Recipe
    from quantrecipe.refine import Trial

__all__ = ["held_out_texts", "render_trial", "trial_beside"]


def held_out_texts(
    ctx: Context, planned: Planned, plan: Plan, specs: Sequence[str], folder: Path, *, raw: bool = False
) -> list[Held]:
    """The texts, read before anything takes long. UsageError where there is nothing to compare."""
    encoded = any(a.encoder is not None and a.encoder.needs_statistics for a in plan.assignments)
    if not encoded and not any(a.lacking for a in plan.assignments):
        raise click.UsageError(
            f"--verify compares an encoder with plain encoding, and {plan.recipe} has none: say `encoder: feedback` "
            "in the recipe."
        )
    require_statistics(plan)
    check_folder(folder, option="-o FILE")
    return texts_of(ctx, read_domains(specs, raw=raw), lambda: planned.model)


@contextmanager
def trial_beside(
    ctx: Context,
    planned: Planned,
    recipe: Recipe,
    plan: Plan,
    texts: Sequence[Held],
    *,
    folder: Path,
    nan: Any,
    reuse: Path | None,
    **running: Any,
) -> Iterator[Trial]:
    """The trial; the file that is kept lasts as long as this."""
    from quantrecipe.refine import tried

    with ExitStack() as stack:
        with apply_progress(ctx.err) as applying, EvalBar(ctx.err) as bar:
            trial = stack.enter_context(
                tried(
                    plan,
                    planned.plan(without_encoders(recipe)),
                    texts,
                    folder=folder,
                    registry=planned.inputs.registry,
                    nan=nan,
                    reuse=reuse,
                    applying=applying,
                    progress=bar.task,
                    **running,
                )
            )
        yield trial


def render_trial(trial: Trial) -> Paragraph:
    """What the trial found, and what is kept."""
    from quantrecipe.cli.eval.verdicts import change_text

    change = change_text(trial.beside.kld_mean)
    kept = "the encoder's file is kept" if trial.better else "it isn't surely better: plain encoding is kept"
    return Paragraph(
        Text.assemble(
            printable(
                f"on {trial.text} ({trial.positions:,} positions) the mean KL divergence is {trial.encoded:.4g}, with "
                f"plain encoding {trial.plain:.4g}: {change}; "
            ),
            (kept, "bold" if trial.better else "bold yellow"),
        )
    )
