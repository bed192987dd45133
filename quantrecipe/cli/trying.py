"""`--verify` of `apply` and `refine`: the file of an encoder is kept where it is better than plain encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from rich.text import Text

from quantrecipe.cli.apply_progress import apply_progress, keep_asked
from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.options.texts import texts_of
from quantrecipe.cli.output_files import check_folder
from quantrecipe.cli.planned.planning import Planned
from quantrecipe.cli.progress import EvalBar
from quantrecipe.cli.tables import Paragraph
from quantrecipe.errors import PlanError
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.plan.statistics import require_statistics
from quantrecipe.recipe.writing.without_encoders import with_plain_layers, without_encoders
from quantrecipe.texts import read_domains

if TYPE_CHECKING:
    from quantrecipe.engine import RunOptions
    from quantrecipe.evaluate import Text as Held
    from quantrecipe.output.apply import Result
    from quantrecipe.output.transform import Nan
    from quantrecipe.plan.plan import Plan
    from quantrecipe.recipe.recipe import Recipe
    from quantrecipe.refine import Trial

__all__ = ["held_out_texts", "render_trial", "require_encoder", "write_better"]


def require_encoder(plan: Plan, why: str) -> None:
    """PlanError for the plan of a recipe without an encoder that needs statistics."""
    encoded = any(a.encoder is not None and a.encoder.needs_statistics for a in plan.assignments)
    if not encoded and not any(a.lacking for a in plan.assignments):
        raise PlanError(
            f"{why}, and recipe {plan.recipe!r} has none",
            "say `encoder: feedback` in it",
            file=plan.recipe_file,
        )


def held_out_texts(
    ctx: Context, planned: Planned, plan: Plan, specs: Sequence[str], folder: Path
) -> list[Held]:
    """The texts, read before anything takes long. PlanError where there is nothing to compare."""
    require_encoder(plan, "--verify compares an encoder with plain encoding")
    require_statistics(plan)
    check_folder(folder, option="-o FILE")
    return texts_of(ctx, read_domains(specs, raw=False), lambda: planned.model)


def write_better(
    ctx: Context,
    planned: Planned,
    plan: Plan,
    texts: Sequence[Held],
    out: Path,
    *,
    recipe: Recipe,
    by_layer: bool,
    force: bool,
    nan: Nan = "error",
    reuse: Path | None = None,
    store: Path | None = None,
    **running: Unpack[RunOptions],
) -> tuple[Plan, Result, Trial | None]:
    """Write what the encoder made, or what plain encoding makes where that isn't surely worse on the texts.

    texts:    held-out ones; none: nothing is compared
    by_layer: whether single layers are judged, too
    The plan of what was written, the result, and what the trial found.
    """
    from quantrecipe.output.apply import apply_plans

    trial: Trial | None = None
    with ExitStack() as stack:
        if texts:
            trial = stack.enter_context(
                _trial_beside(
                    *(ctx, planned, recipe, plan, texts),
                    folder=out.parent,
                    by_layer=by_layer,
                    nan=nan,
                    reuse=reuse,
                    store=store,
                    **running,
                )
            )
            plan = trial.plan
            # What was made is copied, unless the file doesn't say what it was made of.
            reuse = trial.file if planned.inputs.provenance else reuse
            store = None if planned.inputs.provenance else store
        with apply_progress(ctx.err) as progress:
            (result,) = apply_plans(
                [(plan, out)],
                registry=planned.inputs.registry,
                threads=running.get("threads"),
                force=force,
                nan=nan,
                reuse=reuse,
                store=store,
                progress=progress,
                resume=trial is None,  # else all is copied from the trial's file, which this run has made
                keep=keep_asked(ctx.err, progress, keep_part=False),
            )
    if trial is not None:
        result = replace(result, reused=())  # it is its own old file
    return plan, result, trial


@contextmanager
def _trial_beside(
    ctx: Context,
    planned: Planned,
    recipe: Recipe,
    plan: Plan,
    texts: Sequence[Held],
    *,
    folder: Path,
    by_layer: bool,
    nan: Nan,
    reuse: Path | None,
    store: Path | None,
    **running: Unpack[RunOptions],
) -> Iterator[Trial]:
    """The trial; the file that is kept lasts as long as this."""
    from quantrecipe.refine import tried

    @contextmanager
    def scoring() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
        with EvalBar(ctx.err) as bar:
            yield bar.task

    with tried(
        plan,
        planned.plan(without_encoders(recipe)),
        texts,
        folder=folder,
        registry=planned.inputs.registry,
        in_part=(lambda layers: planned.plan(with_plain_layers(recipe, layers))) if by_layer else None,
        nan=nan,
        reuse=reuse,
        store=store,
        applying=lambda: apply_progress(ctx.err),
        scoring=scoring,
        **running,
    ) as trial:
        yield trial


def render_trial(trial: Trial) -> Paragraph:
    """What the trial found, and what is kept."""
    from quantrecipe.cli.eval.verdicts import change_text

    found = f"{trial.encoded:.4g}, with plain encoding {trial.plain:.4g}"
    if trial.layers:
        layers = f"layer{'s' if len(trial.lost) > 1 else ''} {layer_ranges(trial.lost)}"
        found += f"; plain encoding is surely better in {layers if trial.lost else 'no layer'}"
    if trial.in_part is not None:
        found += f", and {trial.in_part:.4g} is left with {'these' if len(trial.lost) > 1 else 'it'} plain"
    kept = {
        "encoder": "the encoder's file is kept",
        "encoder in part": "this file is kept",
        "plain": "it isn't surely better: plain encoding is kept",
    }
    return Paragraph(
        Text.assemble(
            printable(
                f"on {trial.text} ({trial.positions:,} positions) the mean KL divergence is {found}: "
                f"{change_text(trial.beside.kld_mean)} beside plain encoding; "
            ),
            (kept[trial.kept], "bold" if trial.better else "bold yellow"),
        )
    )
