"""Where compiled kernels are kept: a folder that belongs to the user alone.

    $QUANTRECIPE_CACHE_DIR                        if set
    $XDG_CACHE_HOME/quantrecipe                   Linux; ~/.cache/quantrecipe where the variable isn't set
    ~/Library/Caches/quantrecipe                  macOS
    %LOCALAPPDATA%\\quantrecipe\\Cache              Windows

Loading compiled code runs it, so a folder that somebody else owns or may write to is not used. Nothing here
is needed for a right answer: where no folder can be had, kernels are compiled once in each process.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from quantrecipe.whole_file import whole_file

__all__ = ["cache_folder", "kernel_folder", "read_cached", "write_cached"]


def cache_folder() -> Path:
    """The folder that this user's caches go to, whether or not it exists."""
    if chosen := os.environ.get("QUANTRECIPE_CACHE_DIR"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "quantrecipe" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "quantrecipe"
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG rule: a relative path there is to be ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "quantrecipe"


def kernel_folder(version: str) -> Path | None:
    """The private folder for this version's compiled kernels, made if need be; None where there can't be one."""
    try:
        folder = cache_folder() / "kernels" / version
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder if _is_private(folder) and os.access(folder, os.R_OK | os.W_OK | os.X_OK) else None
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return None


def read_cached(path: Path) -> bytes | None:
    """The bytes of a cached file, None if it isn't there or can't be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def write_cached(path: Path, data: bytes) -> None:
    """Put the file there in one step, so that nobody reads half of it. A full or read-only disk is no error."""
    # Private, since the folder's owner may let others look into it; not durable, since what is lost is compiled again.
    with suppress(OSError), whole_file(path, mode=0o600, durable=False) as file:
        file.write(data)


def _is_private(folder: Path) -> bool:
    if not hasattr(os, "getuid"):  # Windows: LOCALAPPDATA is the user's own
        return True
    facts = folder.stat()
    return facts.st_uid == os.getuid() and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
