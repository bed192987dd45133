"""quantrecipe completion: the script by which a shell completes commands, options, recipes and shapes."""

from __future__ import annotations

import os
from pathlib import Path

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_note
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.errors import Problem

__all__ = ["command"]

_PLACES = {
    "bash": "~/.local/share/bash-completion/completions/quantrecipe",
    "zsh": "a folder of $fpath, as _quantrecipe",
    "fish": "~/.config/fish/completions/quantrecipe.fish",
}
"""Where each shell looks for the scripts of programs, by what its own documentation says."""


@subcommand(
    "completion",
    'eval "$(quantrecipe completion bash)"',
    "quantrecipe completion zsh > ~/.zfunc/_quantrecipe",
    "quantrecipe completion fish > ~/.config/fish/completions/quantrecipe.fish",
)
@click.argument("shell", type=click.Choice(list(_PLACES)), required=False)
@pass_context
def command(ctx: Context, shell: str | None) -> None:
    """Print the script that lets SHELL complete commands, options, recipes and reference models.

    SHELL is bash (4.4 or later), zsh or fish; if it is left out, the one that $SHELL names. The line for ~/.bashrc or
    ~/.zshrc is: eval "$(quantrecipe completion bash)". Saved as a file, the script opens faster.
    """
    from click.shell_completion import get_completion_class

    shell = shell or _own_shell()
    found = get_completion_class(shell)
    root = click.get_current_context().find_root()
    if found is None:
        raise click.UsageError(f"This version of click has no completion for {shell}.")
    click.echo(found(root.command, {}, "quantrecipe", "_QUANTRECIPE_COMPLETE").source())
    if ctx.console.is_terminal:
        print_note(
            ctx.err, Problem(what="this is the script, and nothing is installed yet", remedy=_remedy(shell))
        )


def _own_shell() -> str:
    """The shell that the environment names, if it is one of ours."""
    name = Path(os.environ.get("SHELL", "")).name
    if name not in _PLACES:
        raise click.UsageError(f"Name the shell: {', '.join(_PLACES)}.")
    return name


def _remedy(shell: str) -> str:
    line = (
        "quantrecipe completion fish | source"
        if shell == "fish"
        else f'eval "$(quantrecipe completion {shell})"'
    )
    place = f"save the script where {shell} looks for it: {_PLACES[shell]}"
    return f"put `{line}` into the shell's start-up file, or {place}"
