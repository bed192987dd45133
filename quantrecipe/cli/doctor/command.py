"""quantrecipe doctor: what is installed, which engine is found, what is missing, and the line that brings it."""

from __future__ import annotations

import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.options.shared import engine_option, json_option
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.cli.doctor.checks import Finding

__all__ = ["command"]

_STYLES = {"ok": "green", "note": "yellow", "missing": "yellow", "broken": "bold red"}


@subcommand(
    "doctor",
    "quantrecipe doctor",
    "quantrecipe doctor --engine ~/llama.cpp/build/bin",
    "quantrecipe doctor --json",
)
@engine_option
@json_option
@pass_context
@click.pass_context
def command(click_ctx: click.Context, ctx: Context, engine: Path | None, as_json: bool) -> None:
    """Show what is installed, which llama.cpp runs models, on what, and what is missing.

    What is missing is optional, and the line that brings it stands below it. The exit status is 1 where something is
    broken: a package that is needed, a plugin, or an engine that is there and doesn't run.
    """
    findings = _findings(ctx, engine)
    good = all(finding.status != "broken" for finding in findings)
    if as_json:
        ctx.print_json({"ok": good, "findings": findings})
    else:
        for finding in findings:
            _show(ctx, finding)
    if not good:
        click_ctx.exit(1)


def _findings(ctx: Context, engine: Path | None) -> list[Finding]:
    """All checks. Those that wait for other processes do so at the same time."""
    from quantrecipe.cli.doctor.checks import (
        check_caches,
        check_engine,
        check_machine,
        check_packages,
        check_parts,
        check_plugins,
        checked,
    )
    from quantrecipe.memory.machine import detect_machine

    with ThreadPoolExecutor() as pool:
        packages = pool.submit(check_packages)
        machine = pool.submit(detect_machine)
        running = pool.submit(checked, "engine", lambda: check_engine(engine, machine.result()))
        plugins = checked("plugins", lambda: check_plugins(plugins=ctx.plugins))
        return [
            *packages.result(),
            *plugins,
            *running.result(),
            *check_parts(),
            *checked("kernels", check_caches),
            *checked("machine", lambda: check_machine(machine.result())),
        ]


def _show(ctx: Context, finding: Finding) -> None:
    """The status, the name, and a sentence that is wrapped; lines to copy are never broken."""
    from rich.text import Text

    console = ctx.console
    left = f"{finding.status:8}{finding.name:12}"
    wide = console.width - len(left) if console.is_terminal else None
    said = printable(f"{finding.what}")
    wrapped = [said] if wide is None else textwrap.wrap(said, max(20, wide), break_on_hyphens=False) or [""]
    for number, line in enumerate(wrapped):
        text = Text(left if number == 0 else " " * len(left))
        text.stylize(_STYLES[finding.status], 0, 8)
        console.print(text.append(line), soft_wrap=True)
    for line in finding.lines:
        console.print(Text(f"{'':8}  {printable(line)}"), soft_wrap=True)
