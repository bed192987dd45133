"""Sizes and contexts on the command line, spelt as in recipes (`quantrecipe.units`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from quantrecipe.errors import RecipeError
from quantrecipe.units import parse_file_size, parse_memory, parse_tokens

__all__ = ["FileSize", "MemorySize", "Tokens"]


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
    """48G, 500M: thousands, as in llama.cpp's gguf-split; 4.5GiB: powers of two."""

    parse = staticmethod(parse_file_size)


class MemorySize(_Amount):
    """8, 8GB and 8GiB are one."""

    parse = staticmethod(parse_memory)


class Tokens(_Amount):
    """8192 or 8k."""

    name = "tokens"
    parse = staticmethod(parse_tokens)
