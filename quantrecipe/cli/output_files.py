"""Files that commands write: what they are called, whether they can be written, and writing them whole.

Whether a place can be written to is asked before the work: a measurement of an hour that can't be written down is an
hour lost.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from quantrecipe.errors import OutputError
from quantrecipe.model.stem import model_stem

__all__ = ["check_folder", "check_output", "default_name", "model_stem", "write_file", "write_text"]

# What recipes may be called, and file names had better not.
_UNUSUAL = re.compile(r"[^\w.+-]+")


def check_output(path: Path | None, *, force: bool, option: str = "-o FILE", gguf: bool = False) -> None:
    """OutputError where a file couldn't be written at the end; `option` says how to name another.

    gguf: the file will be a GGUF. What isn't one never takes the place of one: --force is meant for the text, or the
    picture, of an earlier run, and a model that is gone was days of work.
    """
    if path is not None:
        from quantrecipe.misplaced import is_gguf_inside
        from quantrecipe.output.naming import check_destination

        check_destination(path, force=force)
        check_folder(path.parent, option=option)
        if not gguf and (is_gguf_inside(path) or (path.suffix == ".safetensors" and path.exists())):
            raise OutputError(
                f"{path} is a model or a matrix, and isn't replaced by something else",
                f"name another file with {option}",
            )


def check_folder(folder: Path, *, option: str) -> None:
    """OutputError where nothing can be written into a folder."""
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "doesn't exist"
        raise OutputError(f"the folder {folder} {what}", f"make it, or name another place with {option}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"nothing can be written into the folder {folder}", f"name another place with {option}"
        )


def write_file(path: Path, nbytes: int, pieces: Iterable[bytes], *, force: bool) -> None:
    """Write a file that appears under its name when it is whole. OutputError where there is one, unless `force`."""
    from quantrecipe.output.partfile import PartFile

    if path.exists() and not force:
        raise OutputError(f"{path} exists", "say --force to replace it, or name another file")
    offset = 0
    with PartFile(path, nbytes, force=force) as file:
        for piece in pieces:
            file.write(memoryview(piece), offset)
            offset += len(piece)
        file.finish()


def write_text(path: Path, text: str, *, force: bool) -> None:
    """Writes a text as UTF-8 in the same way."""
    data = text.encode()
    write_file(path, len(data), [data], force=force)


def default_name(model: Path, recipe: str, *, part: str = "model") -> str:
    """examples/tiny-code/model.safetensors, code-model → tiny-code-code-model.gguf.

    Of another part of the folder: mmproj-tiny-code-code-model.gguf, as llama.cpp's converter calls it.
    """
    begin = "" if part == "model" else f"{part}-"
    return f"{begin}{model_stem(model)}-{_UNUSUAL.sub('-', recipe.rsplit('/', 1)[-1])}.gguf"
