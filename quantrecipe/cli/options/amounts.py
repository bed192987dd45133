"""Numbers, and sizes and contexts that are spelt as in recipes (`quantrecipe.units`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from quantrecipe.errors import RecipeError
from quantrecipe.units import parse_file_size, parse_memory, parse_tokens

__all__ = ["FileSize", "MemorySize", "Percent", "Tokens", "count_option"]

F = TypeVar("F", bound=Callable[..., Any])


class _Amount(click.ParamType[int]):
    """A text that `parse` makes a number of; its error is told as one of the command line."""

    name = "size"
    parse: Callable[[str], int]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return self.parse(value)
        except RecipeError as error:
            self.fail(str(error), param, ctx)


class FileSize(_Amount):
    """A size in thousands, as llama.cpp's gguf-split reads it: 48G, 500M; 4.5GiB is in powers of two."""

    parse = staticmethod(parse_file_size)


class MemorySize(_Amount):
    """A size of memory, in powers of two: 8, 8GB and 8GiB mean the same."""

    parse = staticmethod(parse_memory)


class Tokens(_Amount):
    """A length of a context: 8192, or 8k."""

    name = "tokens"
    parse = staticmethod(parse_tokens)


class Percent(click.ParamType[float]):
    """A share that is written in per cent: +1%, 1%, 0.5 %."""

    name = "per cent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            number = float(text.removesuffix("%").strip()) if text.endswith("%") else math.nan
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            self.fail(f"{value!r} is no share in per cent, such as +1%", param, ctx)
        return number / 100


def count_option(
    *names: str,
    help: str,  # as click has it
    least: int = 1,
    default: int | None = None,
    metavar: str = "N",
) -> Callable[[F], F]:
    """An option whose value is a whole number of at least `least`; a default is shown."""
    shown: dict[str, Any] = {} if default is None else {"default": default, "show_default": True}
    return click.option(*names, type=click.IntRange(min=least), metavar=metavar, help=help, **shown)
