"""quantrecipe help: the documentation, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["command"]


@subcommand(
    "help",
    "quantrecipe help",
    "quantrecipe help recipe-reference",
    "quantrecipe help QR202",
    "quantrecipe help fit",
)
@click.argument("topic", required=False)
@pass_context
def command(ctx: Context, topic: str | None) -> None:
    """Show a page of the documentation; without TOPIC, list the pages.

    TOPIC is a page (recipe-reference), a command (its --help, and the page of this name, if there is one), or a heading
    such as the code of a finding (QR202). On a terminal, pages are shown in a pager.
    """
    from quantrecipe.cli.help.topics import find_section, page_text, topics

    pages = topics()
    if topic is None:
        _list(ctx.console, pages)
        return
    root = click.get_current_context().find_root()
    name = topic.removeprefix("docs/").removesuffix(".md").partition("#")[0].removesuffix("/README").lower()
    name, usage = _usage(root, name)
    text = page_text(pages[name]) if name in pages else None if usage else find_section(topic)
    if usage is None and text is None:
        raise click.UsageError(_unknown(topic, [*pages, *_commands(root)]))
    _show(ctx.console, usage, text)


def _list(console: Console, pages: Mapping[str, Path]) -> None:
    from quantrecipe.cli.help.topics import title_of

    widest = max(map(len, pages))
    for name, path in pages.items():
        console.print(f"{name:{widest}}  {title_of(path)}", soft_wrap=not console.is_terminal)
    console.print()
    console.print("`quantrecipe help TOPIC` shows a page, `help COMMAND` a command's options.")


def _commands(root: click.Context) -> list[str]:
    group = root.command
    return group.list_commands(root) if isinstance(group, click.Group) else []


def _usage(root: click.Context, name: str) -> tuple[str, str | None]:
    """The command's name, also for one that it had before, and what its `--help` prints; None where there is none."""
    group = root.command
    found = group.get_command(root, name) if isinstance(group, click.Group) else None
    if found is None:
        return name, None
    name = found.name or name
    return name, found.get_help(click.Context(found, info_name=name, parent=root, **found.context_settings))


def _unknown(topic: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(topic.lower(), dict.fromkeys(known), n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else "`quantrecipe help` lists them."
    return f"There is no page and no command {topic!r}. {hint}"


def _show(console: Console, usage: str | None, text: str | None) -> None:
    """Shows a page: on a terminal laid out and in a pager, elsewhere as Markdown, which is text."""
    if not console.is_terminal:
        click.echo("\n\n".join(part.rstrip() for part in (usage, text) if part))
        return
    from rich.markdown import Markdown
    from rich.text import Text

    with console.capture() as capture:
        if usage:
            console.print(Text(usage))
        if usage and text:
            console.print()
        if text:
            console.print(Markdown(text, hyperlinks=False), soft_wrap=False)
    click.echo_via_pager(capture.get(), color=console.color_system is not None)
