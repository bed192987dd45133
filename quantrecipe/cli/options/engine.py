"""`--engine`: which llama.cpp runs models, for every command that runs one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["engine_option"]

F = TypeVar("F", bound=Callable[..., Any])


def engine_option(command: F) -> F:
    """Add `--engine`, which gives the command `engine`: a Path or None, for `find_engine` and `require_engine`."""
    return click.option(
        "--engine",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="The llama.cpp that runs models: the folder with libllama, or a program beside it. "
        "[default: $QUANTRECIPE_ENGINE, else llama-cpp-python]",
    )(command)
