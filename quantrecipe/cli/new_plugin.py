"""quantrecipe new-plugin: a package to begin from, made of the example plugin under a name of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.subcommand import subcommand

__all__ = ["command"]


@subcommand(
    "new-plugin", "quantrecipe new-plugin acme", "quantrecipe new-plugin acme --author 'Ada Acme' -o ~/src"
)
@click.argument("name")
@click.option("--author", default="", metavar="NAME", help="Who the licence and pyproject.toml name.")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder to make the package in; this one, if left out.",
)
@pass_context
def command(ctx: Context, name: str, author: str, folder: Path) -> None:
    """Begin a plugin called NAME: the package quantrecipe-NAME, in a folder of that name.

    It has a format, an analysis and a recipe that work, tests that hold them to everything that quantrecipe relies
    on, a benchmark, a README, a licence and a CI workflow. What is written passes its own tests; from there,
    change it into what you want, and keep it passing.
    """
    from quantrecipe.scaffold import write_plugin

    made = write_plugin(name, folder, author=author)
    ctx.console.print(f"{printable(str(made))} is written. Next:", style="bold")
    ctx.console.print(f"  cd {printable(str(made))}")
    ctx.console.print('  pip install -e ".[test]"')
    ctx.console.print("  pytest")
    ctx.console.print(f"  quantrecipe check-plugin {made.name}")
