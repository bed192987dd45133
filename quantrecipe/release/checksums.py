"""SHA256SUMS: the hashes of a release's files, as `sha256sum -c` reads them.

    5f70bf18…  My-Model-Q4_K_M.gguf
    9b74c989…  recipes/My-Model-Q4_K_M.yaml

The card isn't among them, since its author goes on writing it; nor is the file itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from quantrecipe.errors import OutputError, Problem
from quantrecipe.release.hub_names import path_problem
from quantrecipe.sha256sums import Heard, hash_file

__all__ = ["SUMS", "check_sums", "files_below", "read_sums"]

SUMS = "SHA256SUMS"

_LINE = re.compile(r"(?P<sha256>[0-9a-f]{64}) [ *](?P<path>[^\n]+)")
_AT_ONCE = 4  # files: a disk that is asked for more gets slower
_AGAIN = "run `quantrecipe release` again: it does only what changed"


def read_sums(folder: Path) -> dict[str, str]:
    """Read the hashes by path. OutputError where there is no such file, or it isn't one, with every wrong line."""
    file = folder / SUMS
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"can't be read: {what}", "`quantrecipe release` writes it", file=file) from error
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            what = "is no line of sha256sum"
        elif wrong := path_problem(match["path"]):
            what = f"{match['path']!r} {wrong}"
        elif match["path"] in found:
            what = f"{match['path']} is there twice"
        else:
            found[match["path"]] = match["sha256"]
            continue
        problems.append(Problem(what=what, remedy=_AGAIN, file=file, line=number))
    if problems:
        raise OutputError(problems)
    if not found:
        raise OutputError("has no file in it", _AGAIN, file=file)
    return found


def check_sums(folder: Path, sums: Mapping[str, str], hear: Heard | None = None) -> None:
    """Hash every file. OutputError for all that are missing or have other bytes."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        problems = list(pool.map(lambda path: _wrong(folder, path, sums[path], hear), sums))
    if any(problems):
        raise OutputError([problem for problem in problems if problem is not None])


def _wrong(folder: Path, path: str, sha256: str, hear: Heard | None) -> Problem | None:
    file = folder / path
    if not file.is_file():
        return Problem(what=f"is in {SUMS} and isn't there", remedy=_AGAIN, file=file)
    try:
        found = hash_file(file, hear)
    except OutputError as error:
        return error.problems[0]
    if found != sha256:
        return Problem(what=f"has other bytes than {SUMS} says", remedy=_AGAIN, file=file)
    return None


def files_below(folder: Path) -> Iterator[str]:
    """The paths of all files below a folder, but for those in hidden folders and hidden ones; sorted."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix()
