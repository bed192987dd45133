"""quantrecipe imatrix: importance matrices themselves, with each subcommand in a file of its own."""

from __future__ import annotations

import click

from quantrecipe.cli.lazy_group import LazyGroup
from quantrecipe.cli.subcommand import SETTINGS, examples

__all__ = ["COMMANDS", "command"]

COMMANDS = {
    "compute": "Compute the matrix of a model from your own texts.",
    "self": "Have a model write calibration text itself.",
    "show": "Show what each tensor's importance is made of, as a table or a picture.",
    "convert": "Write a .dat file as GGUF, or a GGUF as .dat.",
    "merge": "Add up matrices of one model.",
    "diff": "Show how much a matrix differs from another.",
}
"""Subcommands; the short help stands here so that `--help` imports none of them."""


@click.command(
    "imatrix",
    cls=LazyGroup,
    sections={"Commands": COMMANDS},
    prefix="quantrecipe.cli.imatrix.",
    context_settings=SETTINGS,
    epilog=examples(
        "quantrecipe imatrix compute model.bf16.gguf --text code=src/ --text talk.jsonl",
        "quantrecipe imatrix self model.bf16.gguf --tokens 200k -o self.jsonl",
        "quantrecipe imatrix show imatrix.gguf --picture imatrix.svg",
        "quantrecipe imatrix convert imatrix.dat imatrix.gguf",
        "quantrecipe imatrix merge both.gguf code.gguf prose.gguf --weights 2,1",
        "quantrecipe imatrix diff old.gguf new.gguf",
    ),
)
def command() -> None:
    """Compute, show, convert, merge and compare importance matrices, GGUF or .dat, as llama-imatrix has them.

    `self` has a model write text for it.
    """
