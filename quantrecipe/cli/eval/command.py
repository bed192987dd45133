"""quantrecipe eval: how far files are from the unquantized model, by llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.eval.limits import LIMIT_NAMES, Limits, exceeded
from quantrecipe.cli.options.amounts import count_option
from quantrecipe.cli.options.paths import FILE, file_option
from quantrecipe.cli.options.shared import engine_option, json_option
from quantrecipe.cli.options.texts import TEXT_GRAMMAR, raw_option, text_option
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.cli.eval.candidates import Candidate
    from quantrecipe.engine import RunOptions
    from quantrecipe.evaluate import Reference

__all__ = ["command"]


@subcommand(
    "eval",
    "quantrecipe eval Q4_K_M.gguf --reference BF16.gguf --text held-out.txt",
    "quantrecipe eval *.gguf --reference BF16.gguf --text code=src --text talk.jsonl --plot it.png",
    "quantrecipe eval --reference BF16.gguf --text held-out.txt --save-reference model.reference",
    "quantrecipe eval mine.gguf --reference model.reference --fail-above kld=0.03,ppl=7.5",
)
@click.argument("files", nargs=-1, type=FILE, metavar="FILE...")
@file_option(
    "--reference",
    "reference_path",
    required=True,
    metavar="BF16",
    help="The unquantized model as a GGUF, or what --save-reference wrote.",
)
@text_option(
    help="Text to evaluate on, not the one that importance was measured on; several are shown apart, too. "
    f"{TEXT_GRAMMAR}",
)
@raw_option
@file_option("--save-reference", metavar="OUT", help="Keep what the reference says in OUT.")
@count_option("--ctx", "n_ctx", help="Tokens in a chunk. [default: 512]")
@count_option("--chunks", help="The first N chunks of each text. [default: all]")
@count_option("--threads", help="Threads of llama.cpp. [default: all cores]")
@count_option("--gpu-layers", help="Layers that the GPU takes, if llama.cpp has one. [default: all]", least=0)
@engine_option
@click.option(
    "--fail-above",
    "limits",
    type=Limits(),
    default={},
    metavar="NAME=X,…",
    help=f"Exit with status 1 where a figure of a file is above: {', '.join(LIMIT_NAMES)}.",
)
@file_option("--plot", metavar="OUT", help="Draw size against KL divergence; OUT ends with .svg or .png.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@json_option
@pass_context
def command(
    ctx: Context,
    files: tuple[Path, ...],
    reference_path: Path,
    texts: tuple[str, ...],
    raw: bool,
    save_reference: Path | None,
    n_ctx: int | None,
    chunks: int | None,
    threads: int | None,
    gpu_layers: int | None,
    engine: Path | None,
    limits: dict[str, float],
    plot: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Show perplexity, KL divergence and top-1 agreement of each FILE beside the unquantized model.

    The figures are those of llama-perplexity --kl-divergence, with their standard errors. What the reference says is
    kept in a cache, so that the next run on the same texts needs only FILE. llama.cpp runs the models: the one that
    you have (--engine), or llama-cpp-python. `quantrecipe doctor` shows which one is found.
    """
    from quantrecipe.cli.eval.candidates import evaluate_files, sizes_of
    from quantrecipe.cli.eval.reference import get_reference
    from quantrecipe.cli.output_files import check_output
    from quantrecipe.cli.pictures.figure import check_picture, drawn
    from quantrecipe.cli.progress import EvalBar
    from quantrecipe.engine import require_engine

    if not files and save_reference is None:
        raise click.UsageError("Give a FILE to evaluate, or --save-reference.")
    kind = check_picture(plot, force=force, option="--plot OUT")
    check_output(save_reference, force=force, option="--save-reference OUT")
    found = require_engine(engine)
    specs = lambda: ctx.load_registry().by_ggml_type  # noqa: E731  # loaded when the first header is read
    sizes = sizes_of(files, specs)
    log = (lambda line: ctx.err.print(printable(line))) if ctx.verbose else None
    running: RunOptions = {"threads": threads, "gpu_layers": gpu_layers, "engine": found, "log": log}
    with EvalBar(ctx.err) as progress:
        reference = get_reference(
            ctx,
            reference_path,
            texts,
            files,
            raw=raw,
            save=save_reference,
            force=force,
            n_ctx=n_ctx,
            chunks=chunks,
            progress=progress,
            **running,
        )
        candidates = evaluate_files(sizes, reference, progress=progress, **running)
    if as_json:
        ctx.print_json({"reference": reference.to_json() | {"path": reference.path}, "files": candidates})
    else:
        from quantrecipe.cli.eval.figures import render

        ctx.console.print(render(candidates, reference))
    # The figures are out by now: a picture that can't be drawn takes nothing away.
    missing = plot is not None and not drawn(
        ctx, lambda: _draw(candidates, reference, plot, kind, force=force)
    )
    if error := exceeded(candidates, limits):
        raise error
    if missing:
        raise click.exceptions.Exit(1)


def _draw(candidates: list[Candidate], reference: Reference, path: Path, kind: str, *, force: bool) -> None:
    from quantrecipe.cli.eval.picture import draw
    from quantrecipe.cli.output_files import write_file

    data = draw(candidates, reference, kind=kind)
    write_file(path, len(data), [data], force=force)
