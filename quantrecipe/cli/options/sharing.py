"""Options of `apply` that have other processes and machines do the work."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.options.executors import executor_options, found_executor
from quantrecipe.cli.options.paths import folder_option
from quantrecipe.cli.options.shared import together

if TYPE_CHECKING:
    from quantrecipe.api import Executor
    from quantrecipe.registry import Registry

__all__ = ["Sharing", "sharing_options"]


class _PartNumber(click.ParamType["tuple[int, int]"]):
    """Which part of how many: 3/40."""

    name = "part"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", str(value).strip())
        number, count = map(int, found.groups()) if found else (0, 0)
        if found is None or count < 1:
            self.fail(f"{value!r} is no part, such as 3/40: the third of forty", param, ctx)
        if not 1 <= number <= count:
            self.fail(f"there is no part {value}: they are 1/{count} to {count}/{count}", param, ctx)
        return number, count


sharing_options = together(
    click.option(
        "--part",
        "share",
        type=_PartNumber(),
        metavar="N/M",
        help="Make what process N of M makes, on a folder that all of them see; --assemble makes the file of it.",
    ),
    click.option(
        "--assemble",
        is_flag=True,
        help="Write the file from what the processes of --part have made, and make what is missing.",
    ),
    click.option(
        "--no-make",
        is_flag=True,
        help="With --assemble: refuse where something is missing or damaged.",
    ),
    folder_option(
        "--pieces",
        metavar="FOLDER",
        help="Where --part and --executor keep what is made until the file is written. [default: "
        "OUTPUT.quantrecipe-pieces; with --executor none]",
    ),
    executor_options,
)
"""Adds the options of Sharing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharing:
    """Who does the work, as far as it was said."""

    share: tuple[int, int] | None
    assemble: bool
    no_make: bool
    pieces: Path | None
    executor: str | None
    executor_options: Sequence[tuple[str, str]]

    @property
    def wanted(self) -> bool:
        """True where it isn't this process alone."""
        return self.share is not None or self.assemble or self.executor is not None

    @property
    def returned(self) -> bool:
        """True where workers return what they make to this process, which writes it."""
        return self.executor is not None and self.pieces is None

    def check(self, **others: object) -> None:
        """UsageError where options exclude each other. others: further options of `apply`, by their spelling."""
        ways = [
            name
            for name, given in (
                ("--part", self.share is not None),
                ("--assemble", self.assemble),
                ("--executor", self.executor is not None),
            )
            if given
        ]
        if len(ways) > 1:
            raise click.UsageError(f"{ways[0]} and {ways[1]} exclude each other.")
        if self.no_make and not self.assemble:
            raise click.UsageError("--no-make is for --assemble.")
        if self.pieces is not None and not ways:
            raise click.UsageError("--pieces is for --part, --assemble and --executor.")
        for name, given in others.items():
            spelling = "--" + name.replace("_", "-")
            if ways and given:
                raise click.UsageError(f"{ways[0]} and {spelling} exclude each other.")

    def found_executor(self, registry: Registry) -> Executor | None:
        """The executor with its options; None where none is named. PluginError where there is no such."""
        return found_executor(registry, self.executor, self.executor_options)
