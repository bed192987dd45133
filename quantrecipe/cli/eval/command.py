"""quantrecipe eval: how far files are from the unquantized model, by llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.eval.limits import LIMIT_NAMES, Limits, exceeded
from quantrecipe.cli.options.amounts import count_option
from quantrecipe.cli.options.paths import FILE_OR_RECIPE, file_option, folder_option
from quantrecipe.cli.options.shared import (
    another_model_option,
    json_option,
    llama_options,
    requantize_option,
    statistics_option,
)
from quantrecipe.cli.options.texts import TEXT_GRAMMAR, raw_option, text_option
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.cli.eval.run import Outcome
    from quantrecipe.engine import RunOptions

__all__ = ["command"]

_DOCUMENTS = (".md", ".html", ".json")
"""What a document of answers may end with."""


@subcommand(
    "eval",
    "quantrecipe eval Q4_K_M.gguf --reference BF16.gguf --text held-out.txt",
    "quantrecipe eval *.gguf --reference BF16.gguf --text code=src --text talk.jsonl --plot it.png",
    "quantrecipe eval --reference BF16.gguf --text held-out.txt --save-reference model.reference",
    "quantrecipe eval mine.gguf --reference model.reference --fail-above kld=0.03,ppl=7.5",
    "quantrecipe eval Q4_K_M mine.yaml --reference hf-model/ --text held-out.txt --imatrix i.gguf",
    "quantrecipe eval Q3_K_M --imatrix none --imatrix code.gguf --reference BF16.gguf --text code.txt",
    "quantrecipe eval plain.yaml feedback.yaml --reference BF16.gguf --text t.txt --statistics grams",
    "quantrecipe eval *.gguf --reference BF16.gguf --text t.txt --prompts p.jsonl --answers a.html",
    "quantrecipe eval *.gguf --reference BF16.gguf --text t.txt --questions q.jsonl",
)
@click.argument("files", nargs=-1, type=FILE_OR_RECIPE, metavar="FILE|RECIPE...")
@file_option(
    "--reference",
    "reference_path",
    required=True,
    metavar="BF16",
    help="The unquantized model, a GGUF or a Hugging Face folder; or what --save-reference wrote.",
)
@text_option(
    help="Text to evaluate on, not the one that importance was measured on; several are shown apart, too. "
    f"{TEXT_GRAMMAR}",
)
@raw_option
@click.option(
    "--against",
    type=FILE_OR_RECIPE,
    metavar="FILE|RECIPE",
    help="What the others are compared with. [default: the first one]",
)
@click.option("--by-context", is_flag=True, help="Show the divergence by tokens of context, too.")
@file_option(
    "--imatrix",
    "matrices",
    multiple=True,
    help="Importance matrix for recipes, or `none`; with several, a file is made with each.",
)
@another_model_option
@statistics_option
@requantize_option
@folder_option("--work-dir", help="Where the files of recipes are made. [default: the current folder]")
@click.option("--keep", is_flag=True, help="Keep the files of recipes in --work-dir.")
@file_option(
    "--prompts",
    "prompts_path",
    help="Prompts, one a line, plain or as JSON: the files' answers are compared with the reference's.",
)
@count_option("--answer-tokens", default=128, help="Tokens of an answer, at most.")
@count_option(
    "--continuations",
    help="Go on with the texts at N places, by 128 tokens: how soon the files differ from the reference.",
)
@file_option(
    "--questions",
    "questions_path",
    help="Questions with checkable answers, one JSON object a line: what the files get right.",
)
@file_option(
    "--answers",
    "answers_path",
    metavar="OUT",
    help="Write the answers side by side; OUT ends with .md, .html or .json.",
)
@file_option("--save-reference", metavar="OUT", help="Keep what the reference says in OUT.")
@count_option("--ctx", "n_ctx", help="Tokens in a chunk. [default: 512]")
@count_option("--chunks", help="The first N chunks of each text. [default: all]")
@llama_options(threads="Threads of llama.cpp.")
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
    files: tuple[str, ...],
    reference_path: Path,
    texts: tuple[str, ...],
    raw: bool,
    against: str | None,
    by_context: bool,
    matrices: tuple[Path, ...],
    another_model: bool,
    statistics: Path | None,
    allow_requantize: bool,
    work_dir: Path | None,
    keep: bool,
    prompts_path: Path | None,
    answer_tokens: int,
    continuations: int | None,
    questions_path: Path | None,
    answers_path: Path | None,
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
    """Show how far each FILE is from the unquantized model, and whether one is worth it beside another.

    The figures are perplexity, KL divergence and top-1 agreement, as llama-perplexity --kl-divergence has them; whole
    chunks of text are drawn again and again for how sure they are. A RECIPE is applied to the reference, and its file
    removed afterwards; RECIPE@MATRIX.gguf says with which importance, RECIPE@none without. What the reference says is
    kept in a cache, so that the next run on the same texts needs only FILE. llama.cpp runs the models: the one that
    you have (--engine), or llama-cpp-python. `quantrecipe doctor` shows which one is found.
    """
    from quantrecipe.cli.eval.run import Request, run
    from quantrecipe.cli.output_files import check_output
    from quantrecipe.cli.pictures.figure import check_picture, drawn
    from quantrecipe.engine import require_engine

    if not files and not against and save_reference is None:
        raise click.UsageError("Give a FILE to evaluate, or --save-reference.")
    if answers_path is not None:
        _check_answers(answers_path, with_prompts=prompts_path is not None)
    kind = check_picture(plot, force=force, option="--plot OUT")
    check_output(save_reference, force=force, option="--save-reference OUT")
    check_output(answers_path, force=force, option="--answers OUT")
    found = require_engine(engine)
    request = Request(
        subjects=tuple(dict.fromkeys([*([against] if against else []), *files])),
        reference=reference_path,
        texts=texts,
        raw=raw,
        matrices=tuple(map(str, matrices)),
        another_model=another_model,
        statistics=statistics,
        allow_requantize=allow_requantize,
        work_dir=work_dir,
        keep=keep,
        prompts=prompts_path,
        answer_tokens=answer_tokens,
        continuations=continuations,
        questions=questions_path,
        save=save_reference,
        force=force,
        n_ctx=n_ctx,
        chunks=chunks,
    )
    running: RunOptions = {
        "threads": threads,
        "gpu_layers": gpu_layers,
        "engine": found,
        "log": ctx.engine_log,
    }
    outcome = run(ctx, request, **running)
    if as_json:
        ctx.print_json(outcome)
    else:
        from quantrecipe.cli.eval.figures import render

        ctx.console.print(render(outcome, by_context=by_context))
    # The figures are out by now: a document or a picture that fails takes nothing away.
    if answers_path is not None and outcome.answered is not None:
        from quantrecipe.cli.eval.answers import document
        from quantrecipe.cli.output_files import write_text

        write_text(answers_path, document(outcome.answered, answers_path.suffix.lower()), force=force)
    missing = plot is not None and not drawn(ctx, lambda: _draw(outcome, plot, kind, force=force))
    if error := exceeded(outcome.candidates, limits):
        raise error
    if missing:
        raise click.exceptions.Exit(1)


def _check_answers(path: Path, *, with_prompts: bool) -> None:
    """UsageError where a document of answers can't be written."""
    if not with_prompts:
        raise click.UsageError("--answers needs --prompts, which are answered.")
    if path.suffix.lower() not in _DOCUMENTS:
        raise click.UsageError(f"{path} can't be written: end it with .md, .html or .json.")


def _draw(outcome: Outcome, path: Path, kind: str, *, force: bool) -> None:
    from quantrecipe.cli.eval.picture import draw
    from quantrecipe.cli.output_files import write_file

    data = draw(outcome.candidates, outcome.reference, kind=kind)
    write_file(path, len(data), [data], force=force)
