"""--executor and --executor-option: whose workers do a command's work."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.options.shared import together

if TYPE_CHECKING:
    from quantrecipe.api import Executor
    from quantrecipe.registry import Registry

__all__ = ["check_executor", "executor_options", "found_executor"]


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


executor_options = together(
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
"""Adds the two options, as `executor` and `executor_options`."""


def check_executor(
    executor: str | None, options: Sequence[tuple[str, str]], threads: int | None = None
) -> None:
    """UsageError for options of an executor without one.

    threads: of a command whose work all goes to the executor; UsageError where both are given
    """
    if options and executor is None:
        raise click.UsageError("--executor-option is for --executor.")
    if executor is not None and threads is not None:
        raise click.UsageError(
            "--threads is for this process: an executor has options of its own, such as "
            "--executor-option threads=4."
        )


def found_executor(
    registry: Registry, executor: str | None, options: Sequence[tuple[str, str]]
) -> Executor | None:
    """The executor with its options; None where none is named. PluginError where there is no such."""
    if executor is None:
        return None
    found = registry.executor(executor)
    return found.with_options(_values(found.name, found.option_schema, options))


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
