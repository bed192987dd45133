"""Names for finished files: all of them get theirs, or none.

A name that another file has is only taken where the user said so, and where that is decided in one step with
the taking: a link or, on Windows, a rename fails where there is a file, while a rename elsewhere replaces it.
What is finished is never thrown away because its name is taken: it stays, and the error says where.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from quantrecipe.errors import OutputError
from quantrecipe.output.write_errors import write_error
from quantrecipe.whole_file import sync_folder

if TYPE_CHECKING:
    from quantrecipe.output.partfile import PartFile

__all__ = ["check_destination", "give_names"]

_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""Where a file system has no hard links (FAT, some network and user-space ones)."""


def check_destination(path: Path, *, force: bool) -> None:
    """OutputError if a file can't be written there: no folder, something in the way. `force` lets files be replaced."""
    if path.name in ("", ".."):  # `.`, `/`: with_name wouldn't take them
        raise OutputError(f"{path} is a folder", "name a file")
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if not path.parent.is_dir():
            raise OutputError(
                f"the folder {path.parent} doesn't exist", "create it, or name another file"
            ) from None
        return
    except OSError as error:
        raise write_error(error, path) from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path} is a folder", "name a file")
    if stat.S_ISLNK(mode):
        raise OutputError(
            f"{path} is a link to {path.readlink()}", "name the file itself, or remove the link"
        )
    if not stat.S_ISREG(mode):
        raise OutputError(
            f"{path} is no regular file", "name a file: devices and pipes can't be filled in any order"
        )
    if not force:
        raise OutputError(f"{path} exists", "say --force to replace it, or name another file")


def give_names(parts: Sequence[PartFile]) -> None:
    """Make what was written durable, and give every file its name.

    OutputError if any can't have it: then none has (but for those that replaced a file under `force`, which
    the error names), and the finished parts are kept.
    """
    for part in parts:
        part.make_public()
        part.sync()
    replacing: list[PartFile] = []
    try:
        for part in parts:
            check_destination(part.path, force=part.force)
        for part in sorted(parts, key=lambda part: os.path.lexists(part.path)):  # first what can be undone
            _give_name(part, replacing)
        for folder in {part.path.parent: None for part in parts}:
            sync_folder(folder)
    except (OutputError, OSError) as error:
        _undo(parts, replacing)
        for part in parts:
            part.keep()
        raise _kept(error, parts) from error
    except BaseException:
        _undo(parts, replacing)
        raise
    for part in parts:
        part.discard()


def _give_name(part: PartFile, replacing: list[PartFile]) -> None:
    part.let_go()
    try:
        if not (part.force and os.path.lexists(part.path)):
            try:
                _take_free_name(part.part, part.path)
                return
            except FileExistsError:
                if not part.force:
                    raise OutputError(f"{part.path} exists") from None
        replacing.append(part)
        part.part.replace(part.path)
    except OSError as error:
        raise write_error(error, part.path) from error


def _take_free_name(part: Path, path: Path) -> None:
    """Give the part its name, without ever replacing what has that name: FileExistsError if it is taken."""
    if os.name == "nt":
        part.rename(path)
        return
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):  # the best that can be done here: nothing refuses what appears after this
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
        part.rename(path)


def _undo(parts: Sequence[PartFile], replacing: Sequence[PartFile]) -> None:
    """Take the names away again, except where another file's place was taken: that one is gone."""
    for part in parts:
        if part in replacing:
            continue
        with suppress(OSError):  # the first error is told; where each file is now, too
            if part.is_at(part.path):
                if part.is_at(part.part):
                    part.path.unlink()
                else:
                    part.path.rename(part.part)


def _kept(error: OutputError | OSError, parts: Sequence[PartFile]) -> OutputError:
    """The same error, which also says where each file is now."""
    what = error.problems[0].what if isinstance(error, OutputError) else str(error.strerror or error)
    kept = [part.part for part in parts if part.is_at(part.part)]
    named = [part.path for part in parts if part.part not in kept and part.is_at(part.path)]
    remedy = []
    if kept:
        is_kept, it = ("file is", "it") if len(kept) == 1 else ("files are", "them")
        remedy.append(f"the finished {is_kept} kept as {_names(kept)}: rename {it}, or remove {it}")
    if named:
        remedy.append(f"done before that: {_names(named)}")
    return OutputError(f"everything is written, but {what}", "; ".join(remedy))


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
