"""quantrecipe imatrix self: calibration text that a model writes itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_warning, printable
from quantrecipe.cli.options.amounts import Tokens, count_option
from quantrecipe.cli.options.paths import FILE, file_option, folder_option
from quantrecipe.cli.options.shared import arch_option, json_option, llama_options
from quantrecipe.cli.options.texts import PARTS, split_option, text_option
from quantrecipe.cli.output_files import check_folder, check_output, model_stem, write_text
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.cli.units import counted
from quantrecipe.plain_data import plain

if TYPE_CHECKING:
    from quantrecipe.calibration.self_written import Rewritten, Writing, WritingSettings, Written, Wrote
    from quantrecipe.cli.progress import CalibrationBar
    from quantrecipe.texts import Document

__all__ = ["command"]

_MANY_LOOPS = 0.2  # of the answers


@subcommand(
    "self",
    "quantrecipe imatrix self model.bf16.gguf --tokens 200k -o self.jsonl",
    "quantrecipe imatrix self hf-folder --tokens 1M --split 80/10/10",
    "quantrecipe imatrix self model.gguf --prompts mine.jsonl --seed 7 --temperature 0.8",
)
@click.argument("model", type=FILE)
@click.option(
    "--tokens",
    type=Tokens(),
    default="200k",
    show_default=True,
    metavar="N",
    help="Tokens that it writes at least: 200k, 1M.",
)
@file_option("-o", "--output", metavar="OUT", help="The text. [default: MODEL.self.jsonl in this folder]")
@text_option("--prompts", help="Ask this, chats or beginnings of texts. [default: some 200 prompts of ours]")
@count_option("--seed", default=1, least=0, help="Decides what is drawn: the same seed, the same text.")
@click.option(
    "--temperature",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="X",
    help="1 draws each token as often as the model thinks it likely; less draws likely ones more often.",
)
@click.option(
    "--min-p",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.05,
    show_default=True,
    metavar="SHARE",
    help="Leave out tokens that are less likely than this share of the likeliest.",
)
@count_option("--answer-tokens", default=1024, help="The most tokens of an answer.")
@split_option(help="Divide it by prompts into calibration, search and held-out parts, in the place of OUT.")
@llama_options(threads="Threads of llama.cpp.")
@folder_option("--work-dir", help="Where a folder's temporary BF16 file goes. [default: beside OUT]")
@click.option("--keep", is_flag=True, help="Keep that file.")
@arch_option
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@json_option
@pass_context
def command(
    ctx: Context,
    /,
    model: Path,
    tokens: int,
    output: Path | None,
    prompts: tuple[str, ...],
    seed: int,
    temperature: float,
    min_p: float,
    answer_tokens: int,
    split: tuple[int, int, int] | None,
    threads: int | None,
    gpu_layers: int | None,
    engine: Path | None,
    work_dir: Path | None,
    keep: bool,
    arch: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Have MODEL, a GGUF or a Hugging Face folder, write text for `imatrix compute --text`.

    It answers prompts in 20 languages and 15 programming languages, tools, maths, role-play and more: as chats if it
    has a chat template, and otherwise by going on with the beginnings of texts. Tokens are drawn by lot. Answers that
    end in a loop are left out. Beside OUT, a file says what it was made with. The same command goes on where it was
    stopped.
    """
    from quantrecipe.calibration import hash_of_files
    from quantrecipe.calibration.self_written import WritingSettings, own_prompts, prompts_for, write_texts
    from quantrecipe.cli.imatrix.runnable import runnable
    from quantrecipe.cli.progress import CalibrationBar
    from quantrecipe.engine import require_engine
    from quantrecipe.model.fingerprint import fingerprint
    from quantrecipe.model.open_model import open_model
    from quantrecipe.texts import chat_template, read_domains

    out = output or Path(f"{model_stem(model)}.self.jsonl")
    about = out.with_name(f"{out.name.removesuffix('.jsonl')}.about.json")
    files = _files(out, split)
    for path in (*files, about):
        check_output(path, force=force)
    check_folder(work_dir or out.parent, option="--work-dir DIR")
    found = require_engine(engine)
    registry = ctx.load_registry()
    opened = open_model(model, arch=arch, registry=registry)
    opened.require_weights("give the model itself")
    template = chat_template(opened)
    domains = read_domains(prompts) if prompts else (own_prompts(chats=template is not None),)
    asked = prompts_for([it for domain in domains for it in domain.documents], template)
    if asked.refused:
        what = f"{counted(len(asked.refused), 'prompt')} can't be asked: {asked.refused[0].problems[0].what}"
        print_warning(ctx.err, what, "they are left out")
    settings = WritingSettings(
        tokens=tokens, seed=seed, temperature=temperature, min_p=min_p, answer_tokens=answer_tokens
    )
    journal = out.with_name(f"{out.name}.answers")
    with (
        runnable(ctx, opened, registry, work_dir or out.parent, keep=keep, threads=threads) as path,
        CalibrationBar(ctx.err) as bar,
    ):
        bar.say("hashing the model")
        identity = {
            "fingerprint": str(fingerprint(opened)),
            "xxh3_128": hash_of_files(opened.files),
            "template": template.digest if template is not None else "",
        }
        bar.say("loading the model")
        written = write_texts(
            path,
            asked.prompts,
            journal,
            settings,
            told=identity,
            hear=_Hearing(ctx, bar, tokens).hear,
            threads=threads,
            gpu_layers=gpu_layers,
            engine=found,
            log=ctx.engine_log,
        )
    parts = _parts(written, files, split)
    for file in [file for file, documents in parts.items() if not documents]:
        del parts[file]
        print_warning(ctx.err, f"no prompt fell to {file.name}, which isn't written", "write more --tokens")
    for file, documents in parts.items():
        write_text(file, _lines(documents), force=force)
    document = _about(
        model, identity, settings, written, parts, {it.name: it.digest for it in domains}, len(asked.refused)
    )
    write_text(about, json.dumps(plain(document), indent=2, ensure_ascii=False) + "\n", force=force)
    with suppress(OSError):
        journal.unlink()
    if as_json:
        ctx.print_json(document)
    else:
        _report(ctx, written, parts, about)


class _Hearing:
    """Shows how many tokens there are."""

    def __init__(self, ctx: Context, bar: CalibrationBar, tokens: int) -> None:
        self._ctx, self._bar, self._tokens = ctx, bar, tokens
        self._begun = False

    def hear(self, what: Writing | Wrote | Rewritten) -> None:
        from quantrecipe.calibration.self_written import Rewritten

        if isinstance(what, Rewritten):
            said = f"{what.journal}:{what.line}: this line is damaged, which no crash does"
            print_warning(self._ctx.err, said, "look at the disk; what it held is written again")
        tokens: int | None = getattr(what, "tokens", None)
        if tokens is None:
            return
        if self._begun:
            self._bar.read(tokens)
        else:
            self._bar.start(self._tokens, "writing")
            self._bar.resumed(tokens)
            self._begun = True


def _files(out: Path, split: Sequence[int] | None) -> tuple[Path, ...]:
    if split is None:
        return (out,)
    return tuple(out.with_name(f"{out.name.removesuffix('.jsonl')}.{part}.jsonl") for part in PARTS)


def _parts(
    written: Written, files: Sequence[Path], shares: tuple[int, int, int] | None
) -> dict[Path, tuple[Document, ...]]:
    """What goes into each file. All answers to a prompt are in one part."""
    from quantrecipe.texts import split

    if shares is None:
        return {files[0]: written.documents}
    where = {
        document: number
        for number, part in enumerate(split([it.document for it in written.prompts], shares))
        for document in map(id, part)
    }
    numbers = [where[id(written.prompts[it.prompt].document)] for it in written.kept]
    pairs = list(zip(numbers, written.documents, strict=True))
    return {
        path: tuple(document for number, document in pairs if number == place)
        for place, path in enumerate(files)
    }


def _lines(documents: Sequence[Document]) -> str:
    from quantrecipe.texts import json_lines_of

    return json_lines_of(documents)


def _about(
    model: Path,
    identity: Mapping[str, str],
    settings: WritingSettings,
    written: Written,
    parts: Mapping[Path, Sequence[Document]],
    prompts: Mapping[str, str],
    refused: int,
) -> dict[str, object]:
    """What the text was made with, and what of it is where: nothing that another run wouldn't say, too."""
    import xxhash

    import quantrecipe

    return {
        "version": quantrecipe.__version__,
        "engine": written.engine,
        "model": model.name,
        **identity,
        "settings": settings,
        "prompts": prompts,
        "prompts_refused": refused,
        "tokens": written.tokens,
        "answers": {fate: written.count(fate) for fate in ("kept", "loop", "empty", "broken")},
        "files": {
            path.name: {
                "documents": len(documents),
                "xxh3_128": xxhash.xxh3_128(_lines(documents).encode()).hexdigest(),
            }
            for path, documents in parts.items()
        },
    }


def _report(ctx: Context, written: Written, parts: Mapping[Path, Sequence[Document]], about: Path) -> None:
    all_, loops = len(written.answers), written.count("loop")
    said = f"{written.tokens:,} tokens in {counted(len(written.kept), 'answer')}"
    left = [
        f"{count:,} {what}"
        for count, what in (
            (loops, "that end in loops"),
            (written.count("empty"), "that say nothing"),
            (written.count("broken"), "that aren't text in UTF-8"),
        )
        if count
    ]
    ctx.say(said + (f"; left out: {', '.join(left)}" if left else ""))
    for path, documents in parts.items():
        ctx.say(f"{printable(str(path))}: {counted(len(documents), 'document')}")
    ctx.say(f"{printable(str(about))}: the seed, the model, and all else that they were made with")
    if loops > _MANY_LOOPS * all_:
        what = f"{loops / all_:.0%} of the answers end in loops"
        print_warning(ctx.err, what, "a --temperature above 1, or a smaller --min-p, makes fewer of them")
