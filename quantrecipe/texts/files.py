"""The files that a path names: one file, those of a folder that are text, or those that a glob matches.

Of a folder and a glob, files in order of their names; and what is left out, with the reason, so that it can be said:

    hidden files and folders          .git, .venv, .cache: nobody names them to have them read
    made folders                      node_modules, __pycache__, virtual environments, caches that say so (CACHEDIR.TAG)
    tables, maps, lock files          text that no model is meant to write
    what isn't text in UTF-8          pictures, libraries, archives: told by their content, whatever they are called

A file that is named itself is none of this: it is read, or refused with a reason.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quantrecipe.errors import TextError
from quantrecipe.texts.plain_text import no_text, read_bytes
from quantrecipe.wording import some_of

__all__ = ["SourceFile", "files_of"]

_MADE = frozenset({"node_modules", "bower_components", "__pycache__", "site-packages", "venv"})
_MADE_MARKS = ("pyvenv.cfg", "CACHEDIR.TAG")
"""Files that say of their folder that a program made it: a virtual environment; a cache, as cargo's target/ is."""

_NO_PROSE = (
    ".csv",
    ".tsv",
    ".svg",
    ".map",
    ".min.js",
    ".min.css",
    ".lock",
    "package-lock.json",
    "pnpm-lock.yaml",
    ".log",
)
"""Ends of names of text files that are data, or made by programs."""

_TABLES = (".parquet",)
_WILD = ("*", "?", "[")
_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """A file and its content. `found`: it was found in a folder or by a glob, not named itself."""

    path: Path
    data: bytes
    found: bool


def files_of(named: str) -> tuple[list[SourceFile], dict[str, str]]:
    """The files that a path or a glob names, and those left out with the reason. TextError where nothing is left."""
    path = Path(named)
    if path.is_dir():
        paths, what = list(_within(path)), "folder"
    elif not path.exists() and any(char in named for char in _WILD):
        paths, what = list(_matches(named)), "glob"
    else:
        return [SourceFile(path=path, data=read_bytes(path), found=False)], {}
    files: list[SourceFile] = []
    left_out: dict[str, str] = {}
    for each in paths:
        data = b"" if (reason := _by_name(each)) else read_bytes(each)
        reason = reason or ("" if each.name.endswith(_TABLES) else _by_content(each, data))
        if reason:
            left_out[each.as_posix()] = reason
        else:
            files.append(SourceFile(path=each, data=data, found=True))
    if not files:
        raise TextError(*_nothing(what, left_out), file=named)
    return files, left_out


def _nothing(what: str, left_out: dict[str, str]) -> tuple[str, str]:
    """Why a folder or a glob has no text: what was seen there."""
    if not left_out:
        said = (
            "the folder has no files, or only hidden ones" if what == "folder" else "the glob matches no file"
        )
        return said, "give a file or a folder with texts"
    seen = some_of([f"{Path(name).name} ({reason})" for name, reason in left_out.items()], _SHOWN)
    return f"the {what} has no text: {seen}", "name a file itself to have it read, or give another folder"


def _within(folder: Path) -> Iterator[Path]:
    """All files of a folder that aren't hidden, in order of their paths; made folders aren't entered."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise TextError(f"the folder can't be read ({error.strerror or error})", file=folder) from error
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if not _is_made(path):
                yield from _within(path)
        elif entry.is_file():
            yield path


def _is_made(folder: Path) -> bool:
    return folder.name in _MADE or any((folder / mark).is_file() for mark in _MADE_MARKS)


def _matches(pattern: str) -> Iterator[Path]:
    """The files that a glob matches; `**` goes through folders, and enters neither hidden nor made ones."""
    made: dict[Path, bool] = {}
    names = glob.iglob(pattern, recursive=True)  # noqa: PTH207  # that of Path takes no absolute patterns
    for name in sorted(names, key=lambda name: Path(name).parts):
        path = Path(name)
        if path.is_file() and not any(
            made.setdefault(parent, _is_made(parent)) for parent in list(path.parents)[:-1]
        ):
            yield path


def _by_name(path: Path) -> str:
    return "data, or made by a program" if path.name.lower().endswith(_NO_PROSE) else ""


def _by_content(path: Path, data: bytes) -> str:
    """Why a file isn't read; "" for text."""
    if not data.strip():
        return "empty"
    found = no_text(path.name, data)
    return found[0] if found is not None else ""
