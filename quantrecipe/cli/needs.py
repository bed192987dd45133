"""What a command needs for its end, asked for at its beginning: places to write to, and packages that are optional.

A measurement of an hour that can't be written down, or drawn, is an hour lost. Nothing is written here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import print_problems, print_warning
from quantrecipe.errors import OutputError, QuantrecipeError
from quantrecipe.output.naming import check_target

__all__ = ["check_folder", "check_output", "check_pictures", "drawn"]


def check_output(path: Path | None, *, force: bool, option: str = "-o FILE") -> None:
    """OutputError where a file couldn't be written at the end; `option` says how to name another."""
    if path is not None:
        check_target(path, force=force)
        check_folder(path.parent, option=option)


def check_folder(folder: Path, *, option: str) -> None:
    """OutputError where nothing can be written into a folder."""
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "doesn't exist"
        raise OutputError(f"the folder {folder} {what}", f"make it, or name another place with {option}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"nothing can be written into the folder {folder}", f"name another place with {option}"
        )


def check_pictures() -> None:
    """OutputError where matplotlib isn't installed. It isn't imported yet: that takes a second."""
    if find_spec("matplotlib") is None:
        raise OutputError("pictures need matplotlib", "pip install matplotlib")


def drawn(ctx: Context, draw: Callable[[], object]) -> bool:
    """Draw, after the results were shown; False, and a warning, where that fails: the picture alone is lost then."""
    try:
        draw()
    except QuantrecipeError as error:
        print_problems(ctx.err, error)
    except Exception as error:  # noqa: BLE001  # whatever a drawing library raises, the results are there
        print_warning(ctx.err, f"the picture can't be drawn: {type(error).__name__}: {error}")
    else:
        return True
    print_warning(ctx.err, "there is no picture; what was found is complete, and the exit status is 1")
    return False
