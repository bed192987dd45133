"""quantrecipe sensitivity: what each type costs each tensor of a model, into a sensitivity file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.measuring import DEFAULT_PROBES, DEFAULT_TOKENS, measured
from quantrecipe.cli.options.amounts import count_option
from quantrecipe.cli.options.executors import check_executor, executor_options, found_executor
from quantrecipe.cli.options.paths import FILE, file_option, folder_option
from quantrecipe.cli.options.shared import another_model_option, arch_option, engine_option, threads_option
from quantrecipe.cli.options.texts import TEXT_GRAMMAR, raw_option, text_option, texts_of
from quantrecipe.cli.output_files import model_stem
from quantrecipe.cli.planned.inputs import importance_of
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.errors import SensitivityError

if TYPE_CHECKING:
    from quantrecipe.api import Executor, ModelAnalysis, TensorAnalysis
    from quantrecipe.engine import Engine
    from quantrecipe.measure import Passes
    from quantrecipe.registry import Registry
    from quantrecipe.texts import Text

__all__ = ["command"]


@subcommand(
    "sensitivity",
    "quantrecipe sensitivity model-BF16.gguf --imatrix imatrix.gguf",
    "quantrecipe sensitivity model-BF16.gguf --imatrix imatrix.gguf --text prose.txt --probes 30",
    "quantrecipe sensitivity model-BF16.gguf --types 'Q?_K,IQ4_XS' --report report.html",
    "quantrecipe sensitivity model-BF16.gguf --table kld_results.csv",
    "quantrecipe sensitivity /shared/model-BF16.gguf --text prose.txt --executor ray",
)
@click.argument("model", type=FILE)
@file_option(
    "-o",
    "--output",
    help="Sensitivity file; what it has is kept and added to. [default: MODEL.sensitivity.jsonl in the current folder]",
)
@file_option("--imatrix", help="Importance matrix: losses are those of the outputs.")
@another_model_option
@text_option(
    help=f"Calibration text: probes run the model over it. May be given more than once. {TEXT_GRAMMAR}"
)
@raw_option
@click.option(
    "--types",
    metavar="NAMES",
    help="Types to measure, with commas between; globs are fine. [default: all of mainline's]",
)
@click.option(
    "--analysis",
    "analyses",
    multiple=True,
    metavar="NAME",
    help="How to measure losses (error, imatrix), and what they do to the model (probe, table). "
    "[default: what the files given allow]",
)
@file_option("--table", metavar="CSV", help="Results measured elsewhere, by tensor and type.")
@count_option(
    "--probes",
    default=DEFAULT_PROBES,
    help="Passes over the text, at most; and one more for the model itself. A probe reads a quarter of the text.",
)
@count_option(
    "--tokens",
    default=DEFAULT_TOKENS,
    help="Tokens of the text that a pass reads, from all over it.",
    least=512,
)
@click.option(
    "--resident",
    type=click.Choice(["F32", "F16", "BF16", "Q8_0"], case_sensitive=False),
    metavar="TYPE",
    help="Type of the model in memory while probes run: F32, F16, BF16 or Q8_0. "
    "[default: the most exact that fits in half of what is free]",
)
@count_option("--gpu-layers", help="Layers on the GPU. [default: all, if there is one]", least=0)
@engine_option
@executor_options
@count_option("--sample", help="Weights to measure of each tensor. [default: 1048576]")
@click.option("--all-rows", is_flag=True, help="Measure every row, in every type.")
@click.option(
    "--every-type",
    is_flag=True,
    help="Measure every type of every tensor. [default: most are predicted from a few, where that is sure]",
)
@threads_option
@folder_option(
    "--work-dir", help="Where the probes' temporary model goes, if they need one. [default: beside FILE]"
)
@file_option("--report", metavar="OUT", help="Draw pictures: OUT.html is one page, anything else a folder.")
@click.option("--force", is_flag=True, help="Replace FILE if it is of another model, and OUT if it exists.")
@click.option(
    "--allow-requantize",
    is_flag=True,
    help="Let sources that are quantized be measured, against what is left of their weights.",
)
@arch_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@pass_context
def command(
    ctx: Context,
    /,
    model: Path,
    output: Path | None,
    imatrix: Path | None,
    another_model: bool,
    texts: tuple[str, ...],
    raw: bool,
    types: str | None,
    analyses: tuple[str, ...],
    table: Path | None,
    probes: int,
    tokens: int,
    resident: str | None,
    gpu_layers: int | None,
    engine: Path | None,
    executor: str | None,
    executor_options: tuple[tuple[str, str], ...],
    sample: int | None,
    all_rows: bool,
    every_type: bool,
    threads: int | None,
    work_dir: Path | None,
    report: Path | None,
    force: bool,
    allow_requantize: bool,
    arch: str | None,
    as_json: bool,
) -> None:
    """Measure what each type costs each tensor of MODEL, and how much that matters to its output.

    Losses are measured by encoding and decoding a sample of rows of every tensor; in models of eight layers and
    more, most tensors are encoded in a few types only, and what the others lose is predicted and checked. How much
    losses matter is found by running the model over parts of a text with some tensors rounded (--text), from
    results of others (--table), or, with neither, by what is usual for the tensor's role and depth. What was
    measured before is not measured again, and a run that was stopped goes on where it was.

    With --executor several processes or machines probe, each with the model in its memory; --threads is for losses,
    which are measured in this process. The numbers are the same.
    """
    from quantrecipe.cli.output_files import check_folder
    from quantrecipe.cli.pictures.figure import drawn
    from quantrecipe.cli.sensitivity.report import check_report, write_report
    from quantrecipe.cli.sensitivity.summary import render_sensitivity, summary_document
    from quantrecipe.engine import require_engine
    from quantrecipe.measure import DEFAULT_SAMPLE, Measurement, Subject, choose_types
    from quantrecipe.model.open_model import open_model
    from quantrecipe.texts import read_domains

    if all_rows and sample is not None:
        raise click.UsageError("--sample and --all-rows exclude each other.")
    check_executor(executor, executor_options)
    if executor is not None and not texts:
        raise click.UsageError("--executor is for probes, which need a text: give one with --text.")
    registry = ctx.load_registry()
    workers = found_executor(registry, executor, executor_options)
    losses, weighing = _analyses(registry, analyses, imatrix=imatrix, texts=texts, table=table)
    if report is not None:
        check_report(report, force=force)
    out = output or Path(f"{model_stem(model)}.sensitivity.jsonl")
    found_engine = require_engine(engine) if texts else None
    if texts:
        check_folder(work_dir or out.parent, option="--work-dir DIR")
    domains = read_domains(texts, raw=raw)
    opened = open_model(model, arch=arch, registry=registry)
    what = Measurement(
        types=choose_types(
            registry, [part.strip() for part in types.split(",") if part.strip()] if types else ()
        ),
        analysis=losses,
        weighing=weighing,
        file=table,
        sample=None if all_rows else sample or DEFAULT_SAMPLE,
        probes=probes,
        predict=not every_type,
        passes=_passes(
            texts_of(ctx, domains, lambda: opened),
            tokens,
            threads,
            gpu_layers,
            found_engine,
            resident,
            workers,
        ),
        work=work_dir or out.parent,
        threads=threads,
    )
    subject = Subject(
        model=opened,
        registry=registry,
        importance=importance_of(opened, imatrix, another_model=another_model),
        another_model=another_model,
    )
    found, scope = measured(ctx, subject, out, what, allow_requantize=allow_requantize, force=force)
    if not as_json:
        ctx.console.print(render_sensitivity(found))
        ctx.console.print(f"wrote {printable(str(out))}", soft_wrap=True)
    # The file is there by now, and the table is out: pictures that can't be drawn take nothing away.
    pictures: list[Path] = []
    whole = report is None or drawn(ctx, lambda: pictures.extend(write_report(found, report, force=force)))
    if as_json:
        ctx.print_json(summary_document(found, scope, out, pictures))
    for path in pictures if not as_json else ():
        ctx.console.print(f"wrote {printable(str(path))}")
    if not whole:
        raise click.exceptions.Exit(1)


def _analyses(
    registry: Registry,
    names: tuple[str, ...],
    *,
    imatrix: Path | None,
    texts: tuple[str, ...],
    table: Path | None,
) -> tuple[TensorAnalysis, ModelAnalysis | None]:
    """One analysis of each kind: the named ones, else those that the given files allow."""
    from quantrecipe.api import ModelAnalysis, TensorAnalysis

    of_tensors: list[TensorAnalysis] = []
    of_models: list[ModelAnalysis] = []
    for name in names:
        analysis = registry.analyses.get(name)
        if isinstance(analysis, TensorAnalysis):
            of_tensors.append(analysis)
        elif isinstance(analysis, ModelAnalysis):
            of_models.append(analysis)
        else:
            known = ", ".join(registry.analyses)
            raise SensitivityError(f"there is no analysis {name!r}", f"known are {known}")
    if len(of_tensors) > 1 or len(of_models) > 1:
        raise click.UsageError("--analysis: losses are measured in one way, and weighed in one way.")
    if table is not None and texts and not of_models:
        raise click.UsageError(
            "--text and --table both weigh: say with --analysis probe or --analysis table which."
        )
    if not of_tensors:
        of_tensors = [registry.tensor_analysis("error" if imatrix is None else "imatrix")]
    if not of_models and (texts or table is not None):
        of_models = [registry.model_analysis("probe" if texts else "table")]
    return of_tensors[0], of_models[0] if of_models else None


def _passes(
    texts: Sequence[Text],
    tokens: int,
    threads: int | None,
    gpu_layers: int | None,
    engine: Engine | None,
    resident: str | None,
    executor: Executor | None,
) -> Passes | None:
    from quantrecipe.measure import Passes

    if not texts:
        return None
    return Passes(
        texts=tuple(texts),
        tokens=tokens,
        threads=threads,
        gpu_layers=gpu_layers,
        engine=engine,
        resident=resident,
        executor=executor,
    )
