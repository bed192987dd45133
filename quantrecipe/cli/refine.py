"""quantrecipe refine: error feedback with statistics that are collected behind what is quantized already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.named_recipes import load_recipes, settings_option
from quantrecipe.cli.options.amounts import count_option
from quantrecipe.cli.options.paths import MODEL, RECIPE, file_option, folder_option
from quantrecipe.cli.options.shared import (
    another_model_option,
    arch_option,
    force_option,
    json_option,
    llama_options,
    requantize_option,
    strict_option,
)
from quantrecipe.cli.options.texts import (
    TEXT_GRAMMAR,
    raw_option,
    text_option,
    verify_layers_option,
    verify_option,
)
from quantrecipe.cli.output_files import check_folder, check_output, default_name
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.calibration.gram import Grams
    from quantrecipe.importance.provenance import Provenance
    from quantrecipe.model.model import Model
    from quantrecipe.plan.plan import Plan
    from quantrecipe.texts import Domain, Rendered

__all__ = ["command"]

_STAGES = 4


@subcommand(
    "refine",
    "quantrecipe refine feedback.yaml model-BF16.gguf --text calibration.txt -o model-refined.gguf",
    "quantrecipe refine feedback.yaml hf-folder --text code=src --text talk.jsonl --stages 8",
    "quantrecipe refine feedback.yaml model-BF16.gguf --text calibration.txt --verify held-out.txt",
)
@click.argument("recipe", type=RECIPE)
@click.argument("model", type=MODEL)
@text_option(help=f"What the model reads for the statistics; may be given more than once. {TEXT_GRAMMAR}")
@raw_option
@file_option("-o", "--output", help="Where to write. [default: MODEL-RECIPE.gguf in the current folder]")
@count_option(
    "--stages",
    default=_STAGES,
    help="Runs of layers whose inputs are collected together, behind those before: more take longer.",
)
@verify_option
@verify_layers_option
@folder_option(
    "--statistics",
    metavar="FOLDER",
    help="Where the statistics go; a run that was stopped goes on from there. [default: OUTPUT.statistics]",
)
@count_option("--context", default=512, help="Tokens that the model reads at a time.")
@count_option("--chunks", help="The first N contexts of each text. [default: all]")
@click.option("--output-tensor", is_flag=True, help="Collect the input of the output matrix, too.")
@count_option("--gram-layers", help="Layers whose inputs are collected at a time. [default: as many as fit]")
@click.option(
    "--gram-experts",
    type=click.Choice(["shared", "each"]),
    default="shared",
    show_default=True,
    help="One Gram matrix for all experts of a tensor, or one for each.",
)
@file_option("--imatrix", help="Importance matrix, GGUF or .dat; instead of the recipe's.")
@another_model_option
@settings_option
@strict_option
@requantize_option
@arch_option
@llama_options(threads="Threads that quantize, and those of llama.cpp.")
@folder_option("--work-dir", help="Where a folder's temporary BF16 file goes. [default: beside OUTPUT]")
@force_option
@json_option
@pass_context
def command(
    ctx: Context,
    /,
    recipe: str,
    model: Path,
    texts: tuple[str, ...],
    raw: bool,
    output: Path | None,
    stages: int,
    held_out: tuple[str, ...],
    by_layer: bool,
    statistics: Path | None,
    context: int,
    chunks: int | None,
    output_tensor: bool,
    gram_layers: int | None,
    gram_experts: Literal["shared", "each"],
    imatrix: Path | None,
    another_model: bool,
    settings: dict[str, str],
    strict: bool,
    allow_requantize: bool,
    arch: str | None,
    threads: int | None,
    gpu_layers: int | None,
    engine: Path | None,
    work_dir: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Quantize MODEL with error feedback in stages, each of which knows what the stages before it have lost.

    The recipe says `encoder: feedback`. The inputs of the first layers are collected by running the model over the
    texts, and these layers are quantized in the open model; then come the inputs of the next ones. What is left is a
    folder of statistics, with which the file is made; `apply` and `verify --source` take it, too. Where a run is
    stopped, the same command goes on after the inputs that are finished.
    """
    from quantrecipe.calibration import CalibrationSettings
    from quantrecipe.cli.imatrix.gram import gram_document, write_grams
    from quantrecipe.cli.imatrix.runnable import runnable
    from quantrecipe.cli.options.texts import texts_of
    from quantrecipe.cli.planned.inputs import PlanInputs
    from quantrecipe.cli.planned.plan_table import render_summary, render_warnings
    from quantrecipe.cli.planned.planning import Planned
    from quantrecipe.cli.tables import Paragraph
    from quantrecipe.cli.trying import render_trial, require_encoder, write_better
    from quantrecipe.cli.units import counted
    from quantrecipe.engine import RunOptions, require_engine
    from quantrecipe.errors import ImportanceError
    from quantrecipe.model.open_model import open_model
    from quantrecipe.refine import Quantized
    from quantrecipe.texts import read_domains

    if not texts:
        raise click.UsageError("Say with --text what the model is to read.")
    if by_layer and not held_out:
        raise click.UsageError("--verify-layers judges on the texts of --verify, and there are none.")
    inputs = PlanInputs(
        registry=ctx.load_registry(),
        imatrix=imatrix,
        another_model=another_model,
        strict=strict,
        allow_requantize=allow_requantize,
    )
    registry = inputs.registry
    (loaded,) = load_recipes(ctx, [recipe], registry, settings)
    opened = open_model(model, arch=arch, registry=registry)
    opened.require_weights("give the model itself")
    planned = Planned(inputs=inputs, recipes=[loaded], model=opened, split=None)
    out = output or Path(default_name(model, loaded.name))
    folder = statistics or out.with_name(f"{out.name.removesuffix('.gguf')}.statistics")
    check_output(out, force=force, gguf=True)
    check_folder(folder.absolute().parent, option="--statistics FOLDER")
    check_folder(work_dir or out.parent, option="--work-dir DIR")
    require_encoder(inputs.plan(loaded, opened), "refine collects statistics for an encoder")
    running = RunOptions(
        threads=threads, gpu_layers=gpu_layers, engine=require_engine(engine), log=ctx.engine_log
    )
    domains = read_domains(texts, raw=raw)
    unseen = texts_of(ctx, read_domains(held_out, raw=raw), lambda: opened)

    def plan_of(grams: Grams | None) -> Plan:
        return inputs.plan(loaded, opened, grams=grams)

    def tell(what: str) -> None:
        ctx.err.print(Paragraph(what, indent=2))

    with runnable(ctx, opened, registry, work_dir or out.parent, keep=False, threads=threads) as path:
        behind = Quantized(
            recipe=loaded,
            plan_of=plan_of,
            held=path,
            registry=registry,
            wanted=stages,
            threads=threads,
            told=lambda stage, count, names: tell(
                f"stage {stage + 1} of {count}: {counted(len(names), 'tensor')} quantized before it"
            ),
        )
        rendered, origin = _calibration(opened, domains)
        grams = write_grams(
            *(ctx, tell, path, rendered, folder),
            CalibrationSettings(contexts=(context,), chunks=chunks, output=output_tensor),
            experts=gram_experts,
            layers=gram_layers,
            origin=origin,
            behind=behind,
            **running,
        )
    plan = plan_of(grams)
    if not any(a.inputs for a in plan.assignments):
        most = max(tokens for it in grams.index.inputs for tokens in it.tokens)
        what = f"every matrix has more columns than its input has tokens ({most:,} at most): that says too little"
        raise ImportanceError(
            what, "give more text; ten tokens for each column are a good beginning", file=grams.folder
        )
    if plan.warnings:
        ctx.err.print(render_warnings(plan))
    plan, result, trial = write_better(
        *(ctx, planned, plan, unseen, out), recipe=loaded, by_layer=by_layer, force=force, **running
    )
    if as_json:
        ctx.print_json(
            {
                "recipe": plan.recipe,
                "output": result.path,
                "nbytes": result.nbytes,
                "stages": stages,
                "statistics": gram_document(grams),
                "warnings": plan.warnings,
                "verified": trial,
            }
        )
        return
    ctx.console.print(render_summary([plan], [result]))
    if trial is not None:
        ctx.console.print(render_trial(trial))


def _calibration(
    model: Model, domains: Sequence[Domain]
) -> tuple[list[tuple[Domain, list[Rendered]]], Provenance]:
    """The texts as they are tokenised, and which model reads them."""
    from quantrecipe.calibration import hash_of_files
    from quantrecipe.importance.provenance import Provenance
    from quantrecipe.model.fingerprint import fingerprint
    from quantrecipe.texts import chat_template, render

    chats = any(document.is_chat for domain in domains for document in domain.documents)
    template = chat_template(model) if chats else None
    origin = Provenance(
        fingerprint=str(fingerprint(model)),
        model=hash_of_files(model.files),
        template=template.digest if template is not None else "",
    )
    return [(domain, render(domain, template)) for domain in domains], origin
