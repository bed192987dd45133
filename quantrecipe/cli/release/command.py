"""quantrecipe release: all files of a release from one description, measured, with their model card."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_warning, printable
from quantrecipe.cli.options.paths import FILE, MODEL, folder_option
from quantrecipe.cli.options.shared import (
    arch_option,
    converter_option,
    json_option,
    llama_options,
    pickle_option,
    pre_option,
    requantize_option,
)
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quantrecipe.cli.release.job import Item, Job, Made, Measured, Wanted
    from quantrecipe.release.kept_card import MergedCard

__all__ = ["command"]

_DIFF_SHOWN = 40
"""Lines of a card's difference that are shown."""


@subcommand(
    "release",
    "quantrecipe release --init hf-model/ > release.yaml",
    "quantrecipe release hf-model/ release.yaml --to My-Model-GGUF",
    "quantrecipe release hf://owner/name release.yaml --to name-GGUF --dry-run",
    "quantrecipe release model-BF16.gguf release.yaml --to out --lm-studio ~/.lmstudio/models",
)
@click.argument("model", type=MODEL)
@click.argument("release_path", metavar="[RELEASE]", type=FILE, default=Path("release.yaml"))
@folder_option("--to", "folder", help="Folder of the release; made if it isn't there.")
@click.option(
    "--init", is_flag=True, help="Print a first release.yaml for MODEL, with comments, and do nothing."
)
@click.option(
    "--no-measure", "measures", flag_value=False, default=True, help="Don't run the files over texts."
)
@folder_option(
    "--lm-studio", help="Link the files into DIR/PUBLISHER/MODEL/, where LM Studio looks for them."
)
@llama_options(threads="Threads that quantize, and of llama.cpp.")
@arch_option
@pre_option
@pickle_option
@converter_option
@requantize_option
@click.option(
    "--dry-run", is_flag=True, help="Check the release, show what it would make, and write nothing."
)
@click.option(
    "--force",
    is_flag=True,
    help="Replace files that aren't of this release, and what was edited by hand in the card.",
)
@json_option
@pass_context
def command(
    ctx: Context,
    /,
    model: Path,
    release_path: Path,
    folder: Path | None,
    init: bool,
    measures: bool,
    lm_studio: Path | None,
    threads: int | None,
    gpu_layers: int | None,
    engine: Path | None,
    arch: str | None,
    pre: str | None,
    allow_pickle: bool,
    converter: Path | None,
    allow_requantize: bool,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Make all files of MODEL that RELEASE describes (release.yaml), measure them, and write their model card.

    FOLDER then has the GGUFs, a README.md in the Hugging Face hub's format, charts, recipes, locks, the importance
    matrix, Modelfiles for ollama, and SHA256SUMS. The model is read once for all files. A second run does only what
    changed, and a run that was killed goes on. `quantrecipe publish FOLDER owner/name` then brings it to the hub.
    """
    from quantrecipe.cli.release.parts import Opening

    if folder is None and not init:
        raise click.UsageError("Say with --to in which folder the release is made.")
    registry = ctx.load_registry()
    opening = Opening(
        path=model,
        arch=arch,
        pre=pre,
        allow_pickle=allow_pickle,
        converter=converter,
        registry=registry,
    )
    opened = opening.open()
    if init or folder is None:
        from quantrecipe.cli.release.first_file import first_release

        click.echo(first_release(opened, opening), nl=False)
        return
    from quantrecipe.cli.release.job import Job
    from quantrecipe.cli.release.prepare import make_folder, prepared, require_other_folder
    from quantrecipe.cli.release.wording import speaking_of_the_file
    from quantrecipe.errors import OutputError
    from quantrecipe.output.locks import held
    from quantrecipe.release.record import WORK_FOLDER, Record
    from quantrecipe.release.release_file import read_release

    release = read_release(release_path, registry)
    require_other_folder(folder, opened)
    if not dry_run:
        opened.require_weights("plan with it, and give release the model itself")
    busy = OutputError(f"another run makes the release in {folder}", "wait for it, or name another folder")
    with ExitStack() as stack:
        stack.enter_context(speaking_of_the_file())
        found_in_it = prepared(ctx, release, opened, opening)
        if not dry_run:
            make_folder(folder / WORK_FOLDER)
            stack.enter_context(held(folder / WORK_FOLDER / "lock", busy))
        job = Job(
            ctx=ctx,
            release=release,
            registry=registry,
            model=opened,
            opening=opening,
            folder=folder,
            record=Record(folder),
            parts=found_in_it.parts,
            domains=found_in_it.domains,
            measured_on=found_in_it.measured_on,
            measures=measures,
            threads=threads,
            gpu_layers=gpu_layers,
            force=force,
            allow_requantize=allow_requantize,
            quiet=as_json,
        )
        if dry_run:
            _show_dry(job, found_in_it.wanted, as_json=as_json)
            return
        job = _with_engine(job, engine)
        items, made, measured, card = _run(job, found_in_it.wanted)
    if lm_studio is not None:
        from quantrecipe.cli.release.modelfile import link_for_lm_studio

        # It has a place for projectors, and none for draft heads.
        paths = [folder / path for it in items if it.part != "mtp" for path in made[it.name].sums]
        place = link_for_lm_studio(lm_studio, release, job.name, paths, force=force)
        job.say(f"linked for LM Studio: {place}")
    if as_json:
        ctx.print_json(_document(job, items, made, measured, card))
        return
    _show(job, items, made, measured)
    _tell_card(ctx, card)


def _with_engine(job: Job, given: Path | None) -> Job:
    """The job with llama.cpp, where something needs it. Where only the measuring does and it isn't there, that is left
    for another run.
    """
    from quantrecipe.cli.release.matrix import matrix_is_made
    from quantrecipe.engine import require_engine
    from quantrecipe.errors import EvaluationError

    release = job.release
    computes = release.imatrix is not None and bool(release.imatrix.texts) and not matrix_is_made(job)
    searches = any(it.fit is not None and it.fit.texts for it in release.files)
    measures = job.measures and release.measure is not None
    if not (computes or searches or measures):
        return replace(job, measures=False)
    try:
        return replace(job, engine=require_engine(given))
    except EvaluationError as error:
        if computes or searches:
            raise
        first = error.problems[0]
        print_warning(job.ctx.err, f"nothing is measured: {first.what}", first.remedy)
        return replace(job, measures=False)


def _run(job: Job, wanted: Sequence[Wanted]) -> tuple[list[Item], Mapping[str, Made], Measured, MergedCard]:
    from quantrecipe.cli.release.documents import write_documents
    from quantrecipe.cli.release.figures import measured_files
    from quantrecipe.cli.release.files import made_files, planned_items
    from quantrecipe.cli.release.matrix import matrix_of
    from quantrecipe.cli.release.unquantized_file import remove_unquantized
    from quantrecipe.remote_files import forget

    matrix = matrix_of(job)
    items = planned_items(job, wanted, matrix)
    made = made_files(job, items)
    measured = measured_files(job, [it for it in items if it.part == "model"], made)
    card = write_documents(job, items, made, matrix, measured)
    remove_unquantized(job)
    forget(job.model.files)
    return items, made, measured, card


def _show_dry(job: Job, wanted: Sequence[Wanted], *, as_json: bool) -> None:
    """What would be made. Types that need importance are planned as if there were a matrix."""
    from quantrecipe.cli.planned.inputs import PlanInputs
    from quantrecipe.cli.tables import Cell, Kind, Table, numbers
    from quantrecipe.cli.units import bytes_text
    from quantrecipe.plain_data import rounded_bits
    from quantrecipe.release.release import NO_MATRIX

    rows: list[list[Cell]] = []
    documents: list[dict[str, Any]] = []
    for it in wanted:
        document: dict[str, Any] = {"file": f"{it.name}.gguf", "part": it.part}
        document |= {"nbytes": None, "bits_per_weight": None}
        if it.recipe is None:
            rows.append([f"{it.name}.gguf", "is found by fit", ""])
        else:
            assumed = job.release.imatrix is not None and it.wish.imatrix != NO_MATRIX
            inputs = PlanInputs(
                registry=job.registry,
                assume_imatrix=assumed,
                statistics=job.release.statistics,
                sensitivity=job.release.sensitivity,
                allow_requantize=job.allow_requantize,
            )
            plan = inputs.plan(it.recipe, job.parts.get(it.part, job.model))
            document |= {"nbytes": plan.nbytes, "bits_per_weight": rounded_bits(plan.bits_per_weight)}
            rows.append([f"{it.name}.gguf", bytes_text(plan.nbytes), f"{plan.bits_per_weight:.2f}"])
        documents.append(document)
    if as_json:
        job.ctx.print_json({"folder": job.folder, "files": documents})
        return
    columns: dict[str, Kind] = {"file": "name", **numbers("size", "bits/weight")}
    job.ctx.console.print(Table(columns, rows))
    job.ctx.say(f"would be made in {printable(str(job.folder))}; nothing was written")


def _show(job: Job, items: Sequence[Item], made: Mapping[str, Made], measured: Measured) -> None:
    from quantrecipe.cli.tables import Cell, Kind, Table, numbers
    from quantrecipe.cli.units import bytes_text, loss_text

    columns: dict[str, Kind] = {"file": "name", **numbers("size", "bits/weight")}
    columns |= numbers("KL divergence", "same top-1 %") if measured.files else {}
    rows: list[list[Cell]] = []
    for it in sorted(items, key=lambda it: it.plan.nbytes):
        row: list[Cell] = [made[it.name].first, bytes_text(it.plan.nbytes), f"{it.plan.bits_per_weight:.2f}"]
        if measured.files:
            figures = measured.files.get(it.name)
            row += (
                ["", ""] if figures is None else [loss_text(figures[0].kld), f"{100 * figures[0].top1:.2f}"]
            )
        rows.append(row)
    job.ctx.console.print(Table(columns, rows))
    job.ctx.say(f"the release is in {printable(str(job.folder))}")


def _tell_card(ctx: Context, card: MergedCard) -> None:
    if not card.diff:
        return
    what = (
        "README.md was edited, and stays as it is"
        if card.kept
        else "README.md: its front matter was edited, and stays"
    )
    print_warning(ctx.err, what, "--force replaces what is between the marks, and the front matter")
    lines = card.diff.splitlines()
    for line in lines[:_DIFF_SHOWN]:
        ctx.err.print(printable(line), soft_wrap=True)
    if len(lines) > _DIFF_SHOWN:
        ctx.err.print(f"… and {len(lines) - _DIFF_SHOWN} more lines")


def _document(
    job: Job, items: Sequence[Item], made: Mapping[str, Made], measured: Measured, card: MergedCard
) -> dict[str, Any]:
    from quantrecipe.plain_data import rounded_bits

    return {
        "folder": job.folder,
        "files": [
            {
                "name": it.name,
                "part": it.part,
                "recipe": it.label,
                "files": made[it.name].sums,
                "nbytes": it.plan.nbytes,
                "bits_per_weight": rounded_bits(it.plan.bits_per_weight),
                "figures": None if it.name not in measured.files else measured.files[it.name][0],
            }
            for it in items
        ],
        "measured": measured,
        "card_kept": card.kept,
        "front_matter_kept": card.kept_front,
    }
