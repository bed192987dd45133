"""quantrecipe inspect: what is in a model file, from its headers alone."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_note, print_warning, printable
from quantrecipe.cli.model_contents import (
    Contents,
    contents_of_shapes,
    read_contents,
    roles_in,
    with_gguf_names,
)
from quantrecipe.cli.options.paths import FILE
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.errors import ModelError, Problem, QuantrecipeError
from quantrecipe.gguf.file_types import file_type_name
from quantrecipe.gguf.values import ValueType

__all__ = ["command"]


@subcommand(
    "inspect",
    "quantrecipe inspect model.gguf",
    "quantrecipe inspect model.gguf --tensors --filter '*ffn_down*'",
    "quantrecipe inspect shapes/qwen3-30b-a3b --roles",
    "quantrecipe inspect model.gguf --recipe > recipe.yaml",
    "quantrecipe inspect model.gguf --shapes > model.shapes.json",
    "quantrecipe inspect old.gguf new.gguf --data",
    "quantrecipe inspect examples/tiny-code --json | jq '.tensors[].recipe_name'",
)
@click.argument("file", type=FILE)
@click.argument("other", type=FILE, required=False)
@click.option("--tensors", is_flag=True, help="Every tensor on its own line, and nothing else.")
@click.option(
    "--roles", is_flag=True, help="A line for each role: how many, their shape, their share of the model."
)
@click.option("--metadata", is_flag=True, help="The metadata, and nothing else.")
@click.option("--recipe", is_flag=True, help="The text of the recipe that the file was made with.")
@click.option(
    "--shapes", is_flag=True, help="A shape file: the model without weights, to plan with. Small text."
)
@click.option(
    "--filter", "glob", metavar="GLOB", help="Only tensors and metadata keys of this name; * is any text."
)
@click.option("--data", is_flag=True, help="Of two files, compare the bytes of tensors, too: both are read.")
@click.option("--exit-code", is_flag=True, help="Of two files, exit with 1 if they differ.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with arrays whole.")
@pass_context
def command(
    ctx: Context,
    file: Path,
    other: Path | None,
    tensors: bool,
    roles: bool,
    metadata: bool,
    recipe: bool,
    shapes: bool,
    glob: str | None,
    data: bool,
    exit_code: bool,
    as_json: bool,
) -> None:
    """Show the tensors, types, sizes, metadata and recipe in FILE; with OTHER, how the two differ.

    FILE is a GGUF, a safetensors file, its index, a folder of one, a shape file, or shapes/NAME; any shard stands for
    the whole. Importance matrices and other files in these containers are shown, too. Tensors have the names that
    recipes say (without .weight); what a Hugging Face folder calls them stands below.
    """
    if other is not None:
        if tensors or roles or metadata or recipe or shapes:
            raise click.UsageError(
                "two files are compared whole, or with --filter: leave the other options out."
            )
        if _compare(ctx, file, other, glob, data=data, as_json=as_json) and exit_code:
            raise click.exceptions.Exit(1)
        return
    if data or exit_code:
        raise click.UsageError("--data and --exit-code compare two files, and there is one.")
    if shapes:
        click.echo(_shapes(ctx, file), nl=False)
        return
    contents = _read(ctx, file)
    since = _since(ctx, contents)
    if recipe:
        text = _recipe(contents)
        if since:
            print_warning(ctx.err, since, "`quantrecipe import --infer` makes a recipe of the types")
        click.echo(text, nl=False)
        return
    if glob is None and (note := _label_note(ctx, contents)):
        print_warning(ctx.err, note)
    shown = contents if glob is None else contents.matching(glob)
    if as_json:
        ctx.print_json(roles_in(shown.shown) if roles else shown.to_json() | {"recipe_since": since or None})
        return
    if roles:
        from quantrecipe.cli.inspect.contents_table import render_roles

        ctx.console.print(render_roles(shown))
        return
    if tensors or metadata:
        _show(ctx, shown, tensors=tensors, metadata=metadata, each=True)
    else:
        from quantrecipe.cli.inspect.contents_table import render_provenance, render_title

        ctx.console.print(render_title(contents))
        _show(ctx, shown, tensors=True, metadata=True, each=glob is not None)
        ctx.console.print(render_provenance(contents, since))


def _read(ctx: Context, file: Path) -> Contents:
    """What is in the file; of a Hugging Face folder, with the names that recipes use, where it can be converted."""
    from quantrecipe.model.open_model import model_of_checkpoint, open_model
    from quantrecipe.model.reference_models import is_reference
    from quantrecipe.model.shapes import is_shapes

    if is_reference(file) or (file.is_file() and is_shapes(file)):
        registry = ctx.load_registry()
        return contents_of_shapes(open_model(file, registry=registry), registry.by_ggml_type)
    contents = read_contents(file, lambda: ctx.load_registry().by_ggml_type)
    folder = file if file.is_dir() else file.parent
    if contents.checkpoint is None or not (folder / "config.json").is_file():
        return contents
    try:
        model = model_of_checkpoint(file, contents.checkpoint, ctx.load_registry())
        return with_gguf_names(contents, model)
    except ModelError as error:
        what = f"these are the names of the files, and not those that recipes use: {error.problems[0].what}"
        print_note(ctx.err, Problem(what=what, remedy=error.problems[0].remedy))
        return contents


def _compare(ctx: Context, file: Path, other: Path, glob: str | None, *, data: bool, as_json: bool) -> bool:
    """Show how two files differ, and say whether they do."""
    from quantrecipe.cli.apply_progress import apply_progress
    from quantrecipe.cli.inspect.comparison import compare, render_comparison

    contents = [_read(ctx, path) for path in (file, other)]
    if glob is not None:
        contents = [it.matching(glob) for it in contents]
    with apply_progress(ctx.err) as progress:
        if data:
            progress.start(sum(line.nbytes for line in contents[0].shown))
        found = compare(*contents, data=data, tell=lambda count: progress.advance(count, 2 * count, 0))
    if as_json:
        ctx.print_json(found.to_json())
    else:
        ctx.console.print(render_comparison(found))
    return found.differs


def _label_note(ctx: Context, contents: Contents) -> str:
    """What is wrong with the file's label, "" where nothing is."""
    value = contents.metadata.get("general.file_type")
    if value is None or value.type is not ValueType.UINT32 or not contents.tensors:
        return ""
    from quantrecipe.model.open_model import open_model
    from quantrecipe.plan.label import untrue
    from quantrecipe.tensor import TensorInfo

    label, registry = file_type_name(value.decode()), ctx.load_registry()
    pairs = [(TensorInfo.from_name(it.name, it.shape, it.type), it.type) for it in contents.tensors]
    if untrue(label, pairs, None, registry) is None:
        return ""
    try:  # the file is read once more, now that there is something to find out
        share = untrue(label, pairs, open_model(contents.path, registry=registry), registry)
    except QuantrecipeError:  # no model, so no mix is made of it
        return ""
    if share is None:
        return ""
    most = f"{100 * share.share:.0f} % of the weights in its layers are {share.type}"
    return f"the file says that it is mostly {label} (general.file_type), but {most}"


def _shapes(ctx: Context, file: Path) -> str:
    from quantrecipe.model.open_model import open_model
    from quantrecipe.model.shapes import shapes_text
    from quantrecipe.plan.assign import kept_type

    model = open_model(file, registry=ctx.load_registry())
    return shapes_text(model, {tensor.name: kept_type(tensor, model) for tensor in model.tensors})


def _since(ctx: Context, contents: Contents) -> str:
    """What has become of the file since its recipe was recorded; "" where it is as it was written, or has none."""
    if contents.recipe is None or not contents.container.startswith("GGUF"):
        return ""
    from quantrecipe.model.open_model import open_model
    from quantrecipe.plan.review.recorded import recorded_recipe

    registry = ctx.load_registry()
    try:
        recorded = recorded_recipe(open_model(contents.path, registry=registry), registry)
    except QuantrecipeError:
        return ""  # an importance matrix, or a damaged file: what is in it is shown all the same
    return recorded.sentence if recorded is not None else ""


def _recipe(contents: Contents) -> str:
    if contents.recipe is None:
        remedy = "only files that quantrecipe made carry their recipe"
        raise ModelError("has no recipe recorded in it", remedy, file=contents.path)
    text = contents.recipe.rstrip("\n") + "\n"
    if sys.stdout.isatty():  # into a file goes what is there; onto a terminal nothing that moves its cursor
        return "".join(f"{printable(line)}\n" for line in text.splitlines())
    return text


def _show(ctx: Context, contents: Contents, *, tensors: bool, metadata: bool, each: bool) -> None:
    from quantrecipe.cli.inspect.contents_table import render_metadata, render_tensors, render_types

    if metadata and contents.metadata:
        ctx.console.print(render_metadata(contents))
    if tensors and contents.tensors:
        lines = contents.shown if each else contents.grouped()
        ctx.console.print(render_tensors(lines, grouped=not each))
        ctx.console.print(render_types(contents))
