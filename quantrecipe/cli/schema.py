"""quantrecipe schema: the recipes' JSON Schema with the formats, recipes and roles that are installed, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.options.shared import force_option, write_option
from quantrecipe.cli.output_files import write_text
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.registry import Registry

__all__ = ["command", "schema_of"]


@subcommand(
    "schema",
    "quantrecipe schema -o quantrecipe.schema.json --force",
    "quantrecipe schema --release -o release.schema.json",
)
@click.option("--release", is_flag=True, help="The schema of releases (release.yaml), not of recipes.")
@write_option
@force_option
@click.option("--json", "as_json", is_flag=True, help="The same: a schema is JSON.")
@pass_context
def command(ctx: Context, release: bool, output: Path | None, force: bool, as_json: bool) -> None:
    """Print the JSON Schema of recipes, with the names of the formats, recipes and roles that are installed.

    Editors use it to complete and check what is typed, and to explain it. A recipe names it in its first line:
    `# yaml-language-server: $schema=quantrecipe.schema.json`; or the editor's settings do.
    """
    from quantrecipe.recipe.schema import schema_text

    if release:
        from quantrecipe.packaged import packaged_table

        text = schema_text(packaged_table("release/schema.json"))
    else:
        text = schema_text(schema_of(ctx.load_registry()))
    if output is None:
        click.echo(text, nl=False)
        return
    write_text(output, text, force=force)
    ctx.console.print(printable(str(output)), soft_wrap=True)


def schema_of(registry: Registry) -> dict[str, object]:
    """The schema with what a registry has, and the roles of all reference models."""
    from quantrecipe.model.open_model import open_model
    from quantrecipe.model.reference_models import reference_models
    from quantrecipe.recipe.load import load_recipe
    from quantrecipe.recipe.schema import schema_with
    from quantrecipe.recipe.shipped_recipes import shipped_recipes

    specs = [format_.spec for format_ in registry.formats.values() if format_.spec.codec]
    return schema_with(
        formats={spec.name: f"{spec.bits_per_weight:g} bits per weight; {spec.summary}" for spec in specs},
        recipes={name: load_recipe(name, registry=registry).summary for name in shipped_recipes(registry)},
        roles={tensor.role for name in reference_models() for tensor in open_model(name).tensors},
    )
