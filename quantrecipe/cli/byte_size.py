"""ByteSize: sizes on the command line, spelt as in recipes."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["ByteSize"]


class ByteSize(click.ParamType[int]):
    """48G, 500M: thousands, as in llama.cpp's gguf-split; 4.5GiB: powers of two."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        from quantrecipe.errors import RecipeError
        from quantrecipe.recipe.size import parse_size

        try:
            return parse_size(value)
        except RecipeError as error:
            self.fail(str(error), param, ctx)
