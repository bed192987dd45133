"""Options of `apply` that have other processes and machines do the work."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

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


class _Pair(click.ParamType["tuple[str, str]"]):
    """NAME=VALUE."""

    name = "option"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, sign, text = str(value).partition("=")
        if not sign or not name:
            self.fail(f"{value!r} is no option, such as workers=4", param, ctx)
        return name, text


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
    click.option(
        "--executor",
        metavar="NAME",
        help="Have the work done by other processes or machines: processes, or what a plugin brings "
        "(`quantrecipe plugins`).",
    ),
    click.option(
        "--executor-option",
        "executor_options",
        type=_Pair(),
        multiple=True,
        metavar="NAME=VALUE",
        help="Set an option of the executor; may be given several times.",
    ),
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
        if self.executor_options and self.executor is None:
            raise click.UsageError("--executor-option is for --executor.")
        for name, given in others.items():
            spelling = "--" + name.replace("_", "-")
            if ways and given:
                raise click.UsageError(f"{ways[0]} and {spelling} exclude each other.")

    def found_executor(self, registry: Registry) -> Executor | None:
        """The executor with its options; None where none is named. PluginError where there is no such."""
        if self.executor is None:
            return None
        executor = registry.executor(self.executor)
        return executor.with_options(_values(executor.name, executor.option_schema, self.executor_options))


_TYPES: Mapping[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "string": (str,),
}


def _values(
    name: str, schema: Mapping[str, Mapping[str, Any]], given: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """What was given, as the executor's schema has it. UsageError where it doesn't fit."""
    found: dict[str, Any] = {}
    for option, text in given:
        said = schema.get(option, {})
        kind = said.get("type", "string")
        value: Any = text
        if kind != "string":
            try:
                value = json.loads(text)
            except ValueError:
                value = text
        wrong = not isinstance(value, _TYPES.get(kind, (object,)))
        wrong = wrong or (isinstance(value, bool) and kind != "boolean")
        if wrong or ("minimum" in said and value < said["minimum"]):
            least = f" of at least {said['minimum']}" if "minimum" in said else ""
            raise click.UsageError(
                f"--executor-option {option}={text}: {name} takes a value of type {kind}{least}."
            )
        found[option] = value
    return found
