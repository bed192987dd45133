"""quantrecipe store: stores of encoded tensors, with each subcommand in a file of its own."""

from __future__ import annotations

import click

from quantrecipe.cli.lazy_group import LazyGroup
from quantrecipe.cli.subcommand import SETTINGS, examples

__all__ = ["COMMANDS", "command"]

COMMANDS = {
    "list": "Show the tensors that are in a store.",
    "verify": "Compare every tensor of a store with its hash.",
    "gc": "Remove what was used longest ago, down to a size.",
}
"""Subcommands; the short help stands here so that `--help` imports none of them."""


@click.command(
    "store",
    cls=LazyGroup,
    sections={"Commands": COMMANDS},
    prefix="quantrecipe.cli.store.",
    context_settings=SETTINGS,
    epilog=examples(
        "quantrecipe apply recipes/mine.yaml model-BF16.gguf --store ~/quantrecipe-store",
        "quantrecipe store list ~/quantrecipe-store",
        "quantrecipe store verify ~/quantrecipe-store",
        "quantrecipe store gc ~/quantrecipe-store --max-size 200GB --dry-run",
    ),
)
def command() -> None:
    """Look after a store, in which `apply --store FOLDER` keeps encoded tensors for later runs.

    FOLDER is $QUANTRECIPE_STORE where it isn't named. Runs may use the store meanwhile.
    """
