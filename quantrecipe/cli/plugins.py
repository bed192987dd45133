"""quantrecipe plugins: what is installed, what it adds, and why what is missing is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.options.shared import json_option
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.plain_data import fields_of

if TYPE_CHECKING:
    from quantrecipe.registry import PluginInfo, Registry

__all__ = ["command"]

_FIELDS = (
    "name",
    "distribution",
    "version",
    "module",
    "status",
    "cause",
    "formats",
    "analyses",
    "encoders",
    "executors",
    "recipes",
    "notes",
)


_MANY = 20
"""Architectures that are listed; of more, how many there are."""


@subcommand("plugins", "quantrecipe plugins", "quantrecipe plugins --json")
@json_option
@pass_context
def command(ctx: Context, as_json: bool) -> None:
    """List the plugins that are installed, what each adds, and why one could not be loaded.

    A plugin is a Python package with an entry point of group "quantrecipe"; installing one lets it run its code
    whenever quantrecipe runs. --no-plugins, before the command, loads none.
    """
    from quantrecipe.registry import load_registry

    registry = load_registry(
        plugins=ctx.plugins
    )  # not the context's: its warnings are this command's subject
    if as_json:
        added = _architectures(registry)
        ctx.print_json(
            [{**fields_of(it, *_FIELDS), "architectures": list(added[it.name])} for it in registry.plugins]
        )
        return
    ctx.console.print(_table(registry))
    if not ctx.plugins:
        ctx.say("Plugins are switched off; this is what is built in.")


def _table(registry: Registry) -> Any:
    from quantrecipe.cli.tables import Table

    added = _architectures(registry)
    rows = [
        (
            plugin.name,
            f"{plugin.distribution} {plugin.version}",
            (plugin.status, "green" if plugin.status == "ok" else "bold red"),
            _adds(plugin, added[plugin.name]) if plugin.status == "ok" else plugin.cause,
        )
        for plugin in registry.plugins
    ]
    return Table({"plugin": "name", "from": "name", "status": "word", "adds": "text"}, rows)


def _architectures(registry: Registry) -> dict[str, tuple[str, ...]]:
    """By plugin, llama.cpp's names of the architectures that it adds; or why they can't be used."""
    from quantrecipe.errors import PluginError
    from quantrecipe.model.architectures.known import architectures_of

    found: dict[str, tuple[str, ...]] = {plugin.name: () for plugin in registry.plugins}
    for plugin in registry.loaded:
        try:
            names = sorted({it.name for it in architectures_of(plugin)})
        except PluginError as error:
            names = [str(error)]
        found[plugin.info.name] = tuple(names)
    return found


def _adds(plugin: PluginInfo, architectures: tuple[str, ...]) -> Any:
    from rich.text import Text

    if len(architectures) > _MANY:
        architectures = (f"{len(architectures)} (quantrecipe help architectures)",)
    kinds = {
        "formats": plugin.formats,
        "analyses": plugin.analyses,
        "encoders": plugin.encoders,
        "executors": plugin.executors,
        "architectures": architectures,
        "recipes": _prefixes(plugin),
    }
    lines = [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
    text = Text("\n".join(lines) or "nothing")
    for note in plugin.notes:
        text.append(f"\n{printable(note)}", "yellow")
    return text


def _prefixes(plugin: PluginInfo) -> tuple[str, ...]:
    return tuple(f"{prefix}/…" for prefix in plugin.recipes)
