"""quantrecipe import: a recipe out of a quantized model, or out of another program's command."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_warning, printable
from quantrecipe.cli.options.amounts import count_option
from quantrecipe.cli.options.paths import FILE
from quantrecipe.cli.options.shared import force_option, write_option
from quantrecipe.cli.output_files import check_output, write_text
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.cli.units import counted
from quantrecipe.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from quantrecipe.exchange.assemble import Imported
    from quantrecipe.model.model import Model
    from quantrecipe.registry import Registry

__all__ = ["command"]

# Texts in another program's language; everything else is a model.
_COMMANDS = ("llama-quantize", "tensor-type-file", "custom-q", "tool-suite")
# Bytes of a script or list: the longest that are published have some 100 KiB, and a larger file is no text.
_MAX_TEXT = 1 << 20


@subcommand(
    "import",
    "quantrecipe import Qwen3-14B-UD-Q4_K_XL.gguf -o mix.yaml",
    "quantrecipe import model-00001-of-00004.gguf --infer",
    "quantrecipe import quantize.sh --model model-BF16.gguf",
    "quantrecipe import release.sh --command 3",
    "quantrecipe import types.txt --from tensor-type-file --base Q4_K_M",
    "quantrecipe import DeepSeek.recipe --from tool-suite --model shapes/deepseek-v3.1",
)
@click.argument("source")
@click.option(
    "--from",
    "kind",
    type=click.Choice(["model", *_COMMANDS]),
    help="What SOURCE is: a model, or a text in another program's language. [default: as SOURCE shows]",
)
@click.option(
    "--model",
    "model_path",
    type=FILE,
    help="The model that a text is for: the recipe is held against it.",
)
@click.option("--base", metavar="TYPE", help="The type that the other program is called with beside a list.")
@click.option("--pure", is_flag=True, help="With --base: llama-quantize is called with --pure.")
@count_option("--command", "number", help="Which command of a script that has several, from 1.")
@click.option("--infer", is_flag=True, help="Look at the types, though the file has its recipe in it.")
@click.option(
    "--embedded",
    is_flag=True,
    help="The recipe that the file has in it, or nothing; also where its types are others by now.",
)
@click.option("--no-presets", "presets", flag_value=False, default=True, help="Extend no shipped recipe.")
@click.option("--name", help="What the recipe calls itself. [default: SOURCE without folder and ending]")
@write_option
@force_option
@pass_context
def command(
    ctx: Context,
    source: str,
    kind: str | None,
    model_path: Path | None,
    base: str | None,
    pure: bool,
    number: int | None,
    infer: bool,
    embedded: bool,
    presets: bool,
    name: str | None,
    output: Path | None,
    force: bool,
) -> None:
    """Make a recipe of SOURCE: a quantized model, or another program's way to say the same.

    The mix of a model becomes the shipped recipe that it is, or comes nearest to, and what differs; else roles and
    layer ranges. A file that quantrecipe made gives the recipe that is in it. `-` reads a text from stdin.

    Scripts are read and never run: of sh and bash, of Windows' cmd and PowerShell, and the code of a model card.
    Variables, loops over words and the usual filters (grep, sed, tr, paste) are followed.
    """
    kind = kind or _kind(source)
    if kind == "model" and (model_path or base):
        raise click.UsageError("--model and --base are for texts: say with --from what SOURCE is.")
    if kind != "model" and (infer or embedded or not presets):
        raise click.UsageError("--infer, --embedded and --no-presets are for models.")
    if infer and embedded:
        raise click.UsageError("--infer and --embedded exclude each other.")
    if pure and kind != "tensor-type-file":
        raise click.UsageError("--pure is for --from tensor-type-file.")
    if base is not None and kind in ("llama-quantize", "tool-suite"):
        raise click.UsageError(f"--base is no option of {kind}: SOURCE says it.")
    if number is not None and kind not in ("llama-quantize", "custom-q"):
        raise click.UsageError("--command is for scripts: --from llama-quantize.")
    check_output(output, force=force)
    registry = ctx.load_registry()
    name = name or _stem(source)
    if kind == "model":
        imported = _from_model(Path(source), registry, name, infer=infer, embedded=embedded, presets=presets)
    else:
        model = _open(model_path, registry)
        imported = _from_text(source, kind, base, pure, number, model, registry, name)
    for note in imported.notes:
        print_warning(ctx.err, note)
    if output is None:
        click.echo(imported.text, nl=False)
    else:
        write_text(output, imported.text, force=force)
        ctx.console.print(f"{printable(str(output))}: {counted(imported.rules, 'rule')}")


def _from_model(
    path: Path, registry: Registry, name: str, *, infer: bool, embedded: bool, presets: bool
) -> Imported:
    from quantrecipe.exchange.assemble import Imported
    from quantrecipe.exchange.from_files.recover import recover
    from quantrecipe.model.not_a_model import require_model
    from quantrecipe.model.open_model import open_model
    from quantrecipe.plan.review.recorded import recorded_recipe

    model = open_model(path, registry=registry)
    require_model(model)
    recorded = recorded_recipe(model, registry) if model.container == "gguf" and not infer else None
    notes: tuple[str, ...] = ()
    if recorded is not None:
        notes = (recorded.sentence,) if recorded.sentence else ()
        if not recorded.outdated or embedded:
            return Imported(text=recorded.text, rules=recorded.text.count("\n  - tensors:"), notes=notes)
    elif embedded:
        raise ModelError("has no recipe in it", "leave --embedded out to look at its types", file=path)
    if model.container in ("huggingface", "safetensors"):
        raise ModelError("isn't quantized", "give a GGUF", file=path)
    found = recover(model, registry, name=name, presets=presets)
    return replace(found, notes=(*notes, *found.notes))


def _from_text(
    source: str,
    kind: str,
    base: str | None,
    pure: bool,
    number: int | None,
    model: Model | None,
    registry: Registry,
    name: str,
) -> Imported:
    from quantrecipe.exchange.from_commands.custom_q import from_custom_q, from_tool_suite
    from quantrecipe.exchange.from_commands.llama_quantize import from_llama_quantize
    from quantrecipe.exchange.from_commands.read_command import read_command, read_list_for
    from quantrecipe.exchange.scripts.script import calls_quantize

    text, folder = _read(source)
    file = "stdin" if source == "-" else source
    if kind == "custom-q" and (number is not None or calls_quantize(text)):
        if base is not None:
            raise click.UsageError("--base isn't needed: SOURCE has a command, which says it.")
        kind = "llama-quantize"
    if kind == "custom-q":
        return from_custom_q(text, registry, base=base, model=model, name=name, file=file)
    if kind == "tool-suite":
        return from_tool_suite(text, registry, model=model, name=name, file=file)
    if kind == "tensor-type-file":
        if base is None:
            raise click.UsageError("Say with --base what llama-quantize is called with: --base Q4_K_M.")
        called = read_list_for(text, base, pure=pure, file=file)
    else:
        called = read_command(text, folder, file=file, number=number)
    return from_llama_quantize(called, registry, model=model, name=name, file=file)


def _kind(source: str) -> str:
    """The kind of text or model that SOURCE seems to be."""
    from quantrecipe.exchange.scripts.script import calls_quantize, decoded
    from quantrecipe.model.gguf_file import is_gguf

    path = Path(source)
    if source != "-" and (path.suffix == ".json" or not path.is_file() or is_gguf(path)):
        return "model"  # shapes, folders, and what isn't there
    if source == "-":
        return "llama-quantize"
    if path.suffix == ".recipe":
        return "tool-suite"
    try:
        with path.open("rb") as stream:
            text = decoded(stream.read(_MAX_TEXT))
    except (OSError, UnicodeDecodeError):
        return "model"
    if calls_quantize(text):
        return "llama-quantize"
    if re.search(r"(?m)^[^#\n]*=[A-Za-z]*\d\w*\s*$", text):
        raise click.UsageError(
            f"{printable(source)} is a list of types: say whose, with --from tensor-type-file --base Q4_K_M, "
            "--from custom-q or --from tool-suite."
        )
    return "model"


def _read(source: str) -> tuple[str, Path]:
    """The text, and the folder that paths in it start from."""
    from quantrecipe.exchange.scripts.script import decoded

    path = Path(source)
    try:
        if source == "-":
            data, folder = sys.stdin.buffer.read(_MAX_TEXT + 1), Path()
        elif path.is_file():
            folder = path.parent
            with path.open("rb") as stream:
                data = stream.read(_MAX_TEXT + 1)
        else:
            raise RecipeError("there is no such file", "check the path", file=source)
        if len(data) > _MAX_TEXT:
            raise RecipeError("is larger than 1 MiB, and no list of types", file=source)
        return decoded(data), folder
    except OSError as error:
        raise RecipeError(f"can't be read: {error.strerror}", file=source) from None
    except UnicodeDecodeError:
        raise RecipeError(
            "is neither UTF-8 nor UTF-16 text", "is it a model? leave --from out", file=source
        ) from None


def _open(path: Path | None, registry: Registry) -> Model | None:
    if path is None:
        return None
    from quantrecipe.model.open_model import open_model

    return open_model(path, registry=registry)


def _stem(source: str) -> str:
    name = Path(source).name
    for ending in (".gguf", ".json", ".txt", ".sh", ".bat", ".cmd", ".ps1", ".md", ".recipe", ".shapes"):
        name = name.removesuffix(ending)
    return "".join(char if char.isprintable() else "?" for char in name).strip("- ") or "imported"
