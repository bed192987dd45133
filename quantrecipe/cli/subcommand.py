"""subcommand: what all commands of quantrecipe have in common: -h, the width of their help, examples that work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

__all__ = ["SETTINGS", "examples", "subcommand"]

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""For `context_settings`."""


def subcommand(name: str, *lines: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command called `name`, with these command lines as examples in its help."""
    return click.command(name, context_settings=SETTINGS, epilog=examples(*lines))


def examples(*lines: str) -> str:
    """For `epilog`: command lines that work, one below the other."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
