"""Context: what every command gets: where to print, and how to load the registry."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import click

from quantrecipe.cli.errors import print_warning, printable
from quantrecipe.plain_data import plain

if TYPE_CHECKING:
    from rich.console import Console

    from quantrecipe.registry import Registry

__all__ = ["UNLIMITED", "Color", "Context", "pass_context", "stderr_console", "stdout_console", "watched"]

Color = Literal["auto", "always", "never"]

UNLIMITED = 1 << 20
"""Columns where there is no terminal: nothing is cut or wrapped for grep, awk, a file, or `less -R`, whatever COLUMNS
says."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """The global options, and what follows from them. rich and the registry are loaded when first used.

    color:   "auto" colours terminals only
    plugins: False under --no-plugins
    verbose: True shows the traceback of errors
    """

    color: Color = "auto"
    plugins: bool = True
    verbose: bool = False

    @cached_property
    def console(self) -> Console:
        """The console for results, on stdout."""
        return stdout_console(self.color)

    @cached_property
    def err(self) -> Console:
        """The console for progress, warnings and errors, on stderr."""
        return stderr_console(self.color)

    def say(self, text: str, *, indent: int = 2) -> None:
        """A sentence on stdout, in lines that end between words; all but the first are indented."""
        from quantrecipe.cli.tables import Paragraph

        self.console.print(Paragraph(text, indent=indent))

    @property
    def engine_log(self) -> Callable[[str], None] | None:
        """What hears llama.cpp's log, a line at a time: stderr, under -v."""
        return (lambda line: self.err.print(printable(line))) if self.verbose else None

    def print_json(self, document: object) -> None:
        """A value as JSON on stdout, as `quantrecipe.plain_data` has it."""
        import json

        click.echo(json.dumps(plain(document), indent=2))

    def load_registry(self) -> Registry:
        """Everything that is installed; a plugin that couldn't be loaded is a warning."""
        from quantrecipe.registry import load_registry

        registry = load_registry(plugins=self.plugins)
        for plugin in registry.failed:
            print_warning(
                self.err,
                f"{plugin.source} could not be loaded: {plugin.cause}",
                "see `quantrecipe plugins`, or use --no-plugins",
            )
        return registry


pass_context = click.make_pass_decorator(Context)
"""Gives a command the Context as its first argument."""


def stdout_console(color: Color) -> Console:
    """A console that takes text as it is: square brackets and colons mean nothing, numbers aren't coloured."""
    return _console(sys.stdout, color)


def stderr_console(color: Color) -> Console:
    """A console of the same kind on stderr."""
    return _console(sys.stderr, color)


def _console(stream: IO[str] | None, color: Color) -> Console:
    from rich.console import Console

    if stream is None:  # closed by whoever started us
        stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # open as long as the console
    on_terminal = stream.isatty()
    return Console(
        file=stream,
        color_system=None if color == "never" else "auto",
        force_terminal=True if color == "always" else None,
        no_color=False if color == "always" else None,  # None: as the environment's NO_COLOR says
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=True,  # what is longer than a line is for the terminal to wrap: it can be copied then
        width=None if on_terminal else UNLIMITED,
    )


def watched(console: Console) -> bool:
    """True where somebody watches a progress bar; colours that were asked for make a pipe no terminal."""
    return console.is_terminal and console.width < UNLIMITED
