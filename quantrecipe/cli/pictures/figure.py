"""Pictures as files: whether one can be drawn, which kind its name asks for, and its bytes, the same every time."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import print_problems, print_warning, printable
from quantrecipe.cli.output_files import check_output
from quantrecipe.cli.tables import shorten
from quantrecipe.errors import OutputError, QuantrecipeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "LONGEST_LABEL",
    "check_picture",
    "check_pictures",
    "drawn",
    "encode_figure",
    "label",
    "new_figure",
    "picture_kind",
]

LONGEST_LABEL = 48
"""Characters that stand beside a point without leaving the picture."""


def picture_kind(path: Path) -> str:
    """ "svg" or "png", by the name's end. OutputError for any other."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise OutputError(f"{path} is no name for a picture", "end it with .svg or .png")
    return kind


def check_picture(path: Path | None, *, force: bool, option: str) -> str:
    """The kind of a picture that is to be drawn at the end, "" where none is. OutputError where it couldn't be."""
    if path is None:
        return ""
    kind = picture_kind(path)
    check_output(path, force=force, option=option)
    check_pictures()
    return kind


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


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches wide and high. OutputError where matplotlib isn't installed."""
    try:
        import matplotlib.figure
        import matplotlib.layout_engine
    except ImportError as error:
        raise OutputError("pictures need matplotlib", "pip install matplotlib") from error
    room = matplotlib.layout_engine.ConstrainedLayoutEngine(w_pad=0.1)  # for viewers whose font is wider
    return matplotlib.figure.Figure(figsize=(width, height), layout=room)


def encode_figure(figure: Figure, kind: str) -> bytes:
    """The figure as a file. The same figure gives the same bytes: no time and no random names are in it."""
    import matplotlib

    file = io.BytesIO()
    # Text stays text in an SVG; a fixed salt, and no date or version, for the same bytes every time.
    with (
        matplotlib.rc_context({"svg.hashsalt": "quantrecipe", "svg.fonttype": "none"}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # names in scripts that the font lacks
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, dpi=160, metadata=metadata)
    return file.getvalue()


def label(text: str) -> str:
    """On one line, its middle left out if need be, and no formula: matplotlib takes what stands between dollar signs
    for one.
    """
    (text,) = shorten([printable(text)], LONGEST_LABEL) or [text]
    return text.replace("$", r"\$")
