"""quantrecipe imatrix compute: an importance matrix of a model, from your own texts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_note
from quantrecipe.cli.imatrix.output import (
    check_matrix,
    force_option,
    layout_option,
    say_matrix,
    write_encoded,
)
from quantrecipe.cli.options.amounts import count_option
from quantrecipe.cli.options.executors import check_executor, executor_options, found_executor
from quantrecipe.cli.options.paths import FILE, file_option, folder_option
from quantrecipe.cli.options.shared import arch_option, json_option, llama_options
from quantrecipe.cli.options.texts import TEXT_GRAMMAR, raw_option, split_option, text_option
from quantrecipe.cli.output_files import check_folder, model_stem
from quantrecipe.cli.subcommand import subcommand

__all__ = ["command"]


def _contexts(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Reads lengths of contexts: 512, or 512,4k."""
    from quantrecipe.errors import RecipeError
    from quantrecipe.units import parse_tokens, whole_number

    parts = [part.strip() for part in value.split(",")]
    try:
        # A plain number may be smaller than what a model would be run with.
        numbers = ((part, whole_number(part)) for part in parts)
        return tuple(sorted(parse_tokens(part) if number is None else number for part, number in numbers))
    except RecipeError as error:
        raise click.BadParameter(str(error)) from None


def _share(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Reads a share: 1%, or 0.01."""
    if value is None:
        return None
    try:
        share = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise click.BadParameter(f"{value!r} is no share between 0 and 100 %, such as 1%")
    return share


@subcommand(
    "compute",
    "quantrecipe imatrix compute model.bf16.gguf --text calibration.txt",
    "quantrecipe imatrix compute hf-folder --text code=src/:2 --text chat=talk.jsonl:1 -o mine.gguf",
    "quantrecipe imatrix compute model.gguf --text talk.jsonl --context 512,4096 --until 1%",
    "quantrecipe imatrix compute model.gguf --text talk.jsonl --gram grams",
    "quantrecipe imatrix compute moe.gguf --text talk.jsonl --min-expert-tokens 200 --all-experts",
    "quantrecipe imatrix compute /shared/model.gguf --text talk.jsonl --executor ray",
)
@click.argument("model", type=FILE)
@text_option(help=f"What the model reads; may be given more than once. {TEXT_GRAMMAR}")
@raw_option
@file_option("-o", "--output", metavar="OUT", help="The matrix. [default: MODEL.imatrix.gguf in this folder]")
@click.option(
    "--context",
    "contexts",
    default="512",
    show_default=True,
    callback=_contexts,
    metavar="TOKENS,…",
    help="Tokens that the model reads at a time; several, such as 512,4096: the texts are read in each.",
)
@count_option("--chunks", help="The first N contexts of each text. [default: all]")
@count_option("--skip", default=0, least=0, help="Leave out the first N contexts of each text.")
@click.option(
    "--until",
    callback=_share,
    metavar="SHARE",
    help="Stop when another quarter of tokens changes the matrices by less: 1%. [default: read all]",
)
@count_option(
    "--min-expert-tokens",
    "expert_tokens",
    default=0,
    least=0,
    help="Name experts that fewer tokens reach, and let --until wait for them.",
)
@click.option(
    "--all-experts",
    is_flag=True,
    help="Run these experts on every token of a second pass, which the file then says.",
)
@click.option("--output-tensor", is_flag=True, help="Measure the output matrix, too.")
@click.option("--embeddings", is_flag=True, help="And the token embeddings, by how often each token occurs.")
@text_option(
    "--held-out",
    help="Text that you will evaluate on: warns where it shares passages with what is read here.",
)
@split_option(
    help="Divide the texts into calibration, search and held-out parts, which are written beside OUT."
)
@folder_option(
    "--gram", metavar="FOLDER", help="Write the Gram matrix of each input, E[x xᵀ], into FOLDER, too."
)
@count_option(
    "--gram-layers", help="Layers whose Gram matrices are computed at a time. [default: as many as fit]"
)
@click.option(
    "--gram-experts",
    type=click.Choice(["shared", "each"]),
    default="shared",
    show_default=True,
    help="One Gram matrix for all experts of a tensor, or one for each.",
)
@llama_options(threads="Threads of llama.cpp.")
@executor_options
@layout_option
@folder_option("--work-dir", help="Where a folder's temporary BF16 file goes. [default: beside OUT]")
@click.option("--keep", is_flag=True, help="Keep that file.")
@arch_option
@force_option
@json_option
@pass_context
def command(
    ctx: Context,
    /,
    model: Path,
    texts: tuple[str, ...],
    raw: bool,
    output: Path | None,
    contexts: tuple[int, ...],
    chunks: int | None,
    skip: int,
    until: float | None,
    expert_tokens: int,
    all_experts: bool,
    output_tensor: bool,
    embeddings: bool,
    held_out: tuple[str, ...],
    split: tuple[int, int, int] | None,
    gram: Path | None,
    gram_layers: int | None,
    gram_experts: Literal["shared", "each"],
    threads: int | None,
    gpu_layers: int | None,
    engine: Path | None,
    executor: str | None,
    executor_options: tuple[tuple[str, str], ...],
    layout: str | None,
    work_dir: Path | None,
    keep: bool,
    arch: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compute the importance matrix of MODEL, a GGUF or a Hugging Face folder, by running it over texts.

    Chats (JSON lines) are read as the model's own chat template writes them. With one plain text and a context of 512,
    counts equal those of llama-imatrix, and sums do but for rounding. What was read is saved every minute: the same
    command goes on where it was stopped.

    With --gram the texts are read again for the Gram matrices, which rounding with error feedback needs: their
    diagonals are what the importance matrix has. An OUT that exists stays as it is then, unless --force is given.

    With --executor several processes or machines have the model open, each as a whole, and share the text. The matrix
    is the same. Gram matrices are shared out by layers then, and FOLDER has to be one that all machines see.
    """
    from quantrecipe.calibration import CalibrationSettings
    from quantrecipe.cli.imatrix.calibrating import Calibrating
    from quantrecipe.cli.imatrix.runnable import runnable
    from quantrecipe.engine import RunOptions, require_engine
    from quantrecipe.errors import Problem
    from quantrecipe.model.open_model import open_model
    from quantrecipe.texts import read_domains

    if not texts:
        raise click.UsageError("Say with --text what the model is to read.")
    check_executor(executor, executor_options, threads)
    out = output or Path(f"{model_stem(model)}.imatrix.gguf")
    stays = gram is not None and out.exists() and not force
    if gram is not None:
        check_folder(gram.absolute().parent, option="--gram FOLDER")
    if not stays:
        check_matrix(out, layout, force=force)
    check_folder(work_dir or out.parent, option="--work-dir DIR")
    found = require_engine(engine)
    domains, unseen = read_domains(texts, raw=raw), read_domains(held_out, raw=raw)
    registry = ctx.load_registry()
    workers = found_executor(registry, executor, executor_options)
    opened = open_model(model, arch=arch, registry=registry)
    opened.require_weights("give the model itself")
    settings = CalibrationSettings(
        contexts=contexts,
        chunks=chunks,
        skip=skip,
        output=output_tensor,
        embeddings=embeddings,
        until=until,
        expert_tokens=expert_tokens,
        all_experts=all_experts,
    )
    run = Calibrating(ctx, opened, registry, out, settings)
    run.spare([*domains, *unseen])
    computed, grams = None, None
    running = RunOptions(threads=threads, gpu_layers=gpu_layers, engine=found, log=ctx.engine_log)
    with run.alone():
        if split is not None:
            domains = run.divide(domains, split, force=force)
        run.caution(domains, unseen)
        folder = work_dir or out.parent
        with run.resumable(), runnable(ctx, opened, registry, folder, keep=keep, threads=threads) as path:
            if stays:
                what = f"{out} exists, and stays as it is"
                print_note(ctx.err, Problem(what=what, remedy="--force replaces it"))
            else:
                computed = run.compute(path, domains, workers, **running)
                encoded = write_encoded(out, computed.measurement, layout, force)
                computed.done()
                say_matrix(ctx, out, computed.measurement, encoded, quiet=as_json)
                if not as_json:
                    run.report(computed)
            if gram is not None:
                grams = run.compute_grams(
                    path, domains, gram, workers, experts=gram_experts, layers=gram_layers, **running
                )
    if as_json:
        from quantrecipe.cli.imatrix.gram import gram_document

        ctx.print_json(run.document(computed) | ({} if grams is None else {"gram": gram_document(grams)}))
