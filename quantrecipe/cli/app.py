"""The `quantrecipe` command: its global options, and its subcommands, each imported only when it is run."""

from __future__ import annotations

import traceback
from typing import Any

import click

from quantrecipe import __version__
from quantrecipe.cli.context import Color, Context, stderr_console
from quantrecipe.cli.errors import print_problems, print_renamed
from quantrecipe.cli.lazy_group import LazyGroup
from quantrecipe.cli.subcommand import SETTINGS, examples
from quantrecipe.cli.word_order import refuse_llama_quantize, refuse_model_as_word, refuse_model_first
from quantrecipe.errors import QuantrecipeError

__all__ = ["COMMANDS", "FORMER", "SECTIONS", "app"]

SECTIONS = {
    "Make files": {
        "apply": "Quantize a model as a recipe says.",
        "plan": "Show what a recipe would do to a model, to the byte.",
        "refine": "Quantize in stages, each behind what the others have lost.",
        "graft": "Put tensors of one GGUF into another.",
        "release": "Make the files of a release, measure them, write their card.",
        "publish": "Bring a release to the Hugging Face hub.",
        "store": "Look after a store of encoded tensors, which apply takes from.",
    },
    "Write and review recipes": {
        "init": "Write a first recipe for a model, with comments.",
        "recipes": "List the recipes that ship, and how large they make a model.",
        "check": "Check recipes, as a reviewer would: errors, warnings, advice.",
        "diff": "Show what a change of a recipe does to models.",
        "explain": "Show why a tensor gets its type: the rules tried, in order.",
        "flatten": "Print a recipe with all that it extends merged in.",
        "lock": "Freeze a plan, to be applied as it is or not at all.",
        "sign": "Sign a model, or write checksums of its files.",
        "verify": "Check a file against its hashes, its recipe and its source.",
        "ci": "Check and compare the recipes that a pull request changes.",
        "shapes": "List the reference models, to try recipes on without weights.",
    },
    "Find the best mix": {
        "advise": "Show which mixes run on this machine, and what each costs.",
        "fit": "Find the mix that loses least within a budget.",
        "studio": "Open a page on which one slides a size and sees the mix.",
        "damping": "Find how much to damp the statistics of error feedback.",
        "sensitivity": "Measure what each type costs each tensor of a model.",
        "eval": "Show how far files are from the unquantized model.",
        "speed": "Measure how fast each type runs on this machine.",
    },
    "Look at files, bring recipes in and out": {
        "inspect": "Show what is in a model file.",
        "report": "Show a plan or a file as one page: maps, figures, reasons.",
        "imatrix": "Show, convert, merge and compare importance matrices.",
        "import": "Make a recipe of a quantized model, or of a command line.",
        "export": "Say what a recipe does in another program's language.",
    },
    "Documentation": {
        "help": "Show a page of the documentation, or list the pages.",
        "schema": "Print the recipes' schema, for completion in editors.",
        "completion": "Print the script that completes commands in the shell.",
    },
    "Formats and plugins": {
        "formats": "List the formats that recipes can use.",
        "plugins": "List the plugins that are installed, and what became of them.",
        "check-plugin": "Check that a plugin keeps what formats and analyses promise.",
        "doctor": "Show what works here, what is missing, and what brings it.",
        "new-plugin": "Begin a plugin: a package that passes its own tests.",
    },
}
"""Subcommands in the order of the help, each the `command` of the module of its name; the short help stands here so
that `--help` imports none of them."""

COMMANDS = {name: short for section in SECTIONS.values() for name, short in section.items()}

FORMER = {"measure": "sensitivity", "render": "flatten"}
"""Commands by the names that they had. For one more version these work, with a note; nothing lists or proposes them."""


class App(LazyGroup):
    """The command, which reports the errors of all its subcommands, and command lines in another program's order."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # a shell that completes a line has half of it
            refuse_llama_quantize(args, {*COMMANDS, *FORMER})
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in FORMER:
            old, args = args[0], [FORMER[args[0]], *args[1:]]
            if not ctx.resilient_parsing:
                print_renamed(
                    stderr_console(ctx.params["color"]), f"quantrecipe {old}", f"quantrecipe {args[0]}"
                )
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and command is not None and not ctx.resilient_parsing:
            refuse_model_first(name, command, rest)
            refuse_model_as_word(name, command, rest)
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except QuantrecipeError as error:
            if ctx.obj.verbose:
                traceback.print_exc()
            print_problems(ctx.obj.err, error)
            ctx.exit(1)


@click.command(
    cls=App,
    sections=SECTIONS,
    former=FORMER,
    prefix="quantrecipe.cli.",
    context_settings=SETTINGS,
    epilog=examples(
        "quantrecipe apply recipes/code-model.yaml model.safetensors",
        "quantrecipe plan llama.cpp/Q4_K_M model.gguf",
    ),
)
@click.version_option(__version__, message="quantrecipe %(version)s")
@click.option("--no-plugins", is_flag=True, help="Load no installed plugins, only what is built in.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="Colour the output; auto: on terminals, unless NO_COLOR is set.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of errors.")
@click.pass_context
def app(ctx: click.Context, no_plugins: bool, color: Color, verbose: bool) -> None:
    """Quantize language models to GGUF, as a recipe says."""
    ctx.obj = Context(color=color, plugins=not no_plugins, verbose=verbose)
