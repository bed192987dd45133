"""LazyGroup: a command with subcommands that are imported only when they are run, so that `--help` is quick."""

from __future__ import annotations

import importlib
import keyword
from collections.abc import Mapping
from typing import Any

import click

__all__ = ["LazyGroup", "load_command"]


class LazyGroup(click.Group):
    """A group that knows its subcommands by section, name and short help.

    Each is the `command` of the module prefix + name, or of the module `command` in the folder of this name.
    `former` has the names that subcommands had before, and the ones they have now: they work and are nowhere shown.
    The module of `new-plugin` is new_plugin, that of `import`, which is a keyword, import_.
    """

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, Mapping[str, str]],
        prefix: str,
        former: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self._sections = sections
        self._short_helps = {name: short for section in sections.values() for name, short in section.items()}
        self._prefix = prefix
        self._former = former or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._short_helps)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = self._former.get(cmd_name, cmd_name)
        if cmd_name not in self._short_helps:
            return None
        return load_command(self._prefix, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self._short_helps
        if args and args[0] not in known and not args[0].startswith("-"):
            import difflib  # only to say what is wrong: the usual command line doesn't wait for it

            close = difflib.get_close_matches(args[0], known, 1)
            hint = f"Did you mean {close[0]}?" if close else f"Commands are {', '.join(known)}."
            ctx.fail(f"There is no command {args[0]!r}. {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, self._short_helps))
        for name, commands in self._sections.items():
            with formatter.section(name):
                formatter.write_dl([(f"{command:{widest}}", short) for command, short in commands.items()])


def load_command(prefix: str, name: str) -> click.Command:
    """The command of this name, whose module is imported now."""
    last = name.replace("-", "_")
    module = importlib.import_module(f"{prefix}{last}{'_' * keyword.iskeyword(last)}")
    if hasattr(module, "__path__"):  # a folder: a command of several files
        module = importlib.import_module(f"{module.__name__}.command")
    command: click.Command = module.command
    return command
