"""Signed files: which files of a model are signed, by which names, and their SHA-256 as a list for `sha256sum -c`."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from quantrecipe.errors import ModelError, SignatureError
from quantrecipe.model.shards import shard_paths
from quantrecipe.sha256sums import hash_file, sums_text

__all__ = [
    "WHOLE",
    "Counted",
    "HashProgress",
    "SignedFiles",
    "checksums",
    "checksums_text",
    "files_of",
    "shards_of",
    "signed",
    "within",
]

WHOLE = "."
"""How the library calls the only file."""
_GIT = (".git", ".gitattributes", ".github", ".gitignore")  # what the library leaves out of folders


class HashProgress(Protocol):
    """What is told while files are hashed; from any thread."""

    def start(self, nbytes: int) -> None:
        """So many bytes are to be read."""

    def read(self, nbytes: int) -> None:
        """So many more were read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedFiles:
    """What a signature is of.

    folder: which the names of the files count from
    files:  SHA-256 in hex, by name with slashes
    nbytes: of all of them
    """

    folder: Path
    files: Mapping[str, str]
    nbytes: int


class StoppedError(Exception):
    """Somebody waits no longer."""


class Counted:
    """Tells how far the hashing is; ends it where it is interrupted."""

    def __init__(self, files: Sequence[Path], progress: HashProgress | None) -> None:
        self.stop = threading.Event()
        self._progress = progress
        if progress is not None:
            progress.start(sum(path.stat().st_size for path in files))

    def read(self, nbytes: int) -> None:
        """Note bytes that were hashed. StoppedError where nobody waits for them any more."""
        if self.stop.is_set():
            raise StoppedError
        if self._progress is not None:
            self._progress.read(nbytes)


def checksums(
    paths: Sequence[Path],
    leave_out: Sequence[Path] = (),
    *,
    threads: int | None = None,
    progress: HashProgress | None = None,
) -> SignedFiles:
    """The SHA-256 of what `sign` would sign, without the library. OutputError where a file can't be read."""
    root, files = files_of(paths, leave_out)
    counted = Counted(files, progress)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        try:
            digests = list(pool.map(lambda path: hash_file(path, counted.read), files))
        except BaseException:
            counted.stop.set()
            raise
    return signed(root, files, {_name(it, root): found for it, found in zip(files, digests, strict=True)})


def checksums_text(signed: SignedFiles, output: Path) -> str:
    """Lines as `sha256sum -c` reads them, with names as they are from the folder of `output`."""
    return sums_text(
        {
            Path(os.path.relpath(signed.folder / name, output.parent)).as_posix(): digest
            for name, digest in signed.files.items()
        }
    )


def files_of(paths: Sequence[Path], leave_out: Sequence[Path]) -> tuple[Path, list[Path]]:
    """The root that names count from, and all files, each once. SignatureError for what isn't below the root."""
    first, *more = paths
    if first.is_dir():
        root, files = first, within(first, leave_out)
    else:
        files = shards_of(first)
        root = first if len(files) == 1 and not more else first.parent
    for path in more:
        place, base = (Path(os.path.abspath(it)) for it in (path, root))  # noqa: PTH100  # resolve() follows links
        if not place.is_relative_to(base):
            what = f"isn't in the folder of {first.name}, and a signature names files below one folder"
            raise SignatureError(what, "copy it there", file=path)
        files += [root / place.relative_to(base)]
    for path in files:
        if not path.is_file():
            raise SignatureError("there is no such file", "check the path", file=path)
    if not files:
        raise SignatureError("has no files", "give a model", file=first)
    return root, list(dict.fromkeys(files))


def within(folder: Path, leave_out: Sequence[Path]) -> list[Path]:
    """All files of a folder but these (or what is in them) and git's, in order."""
    found = [it for it in sorted(folder.rglob("*")) if it.is_file()]
    ours = {path.absolute() for path in leave_out}
    return [
        it
        for it in found
        if it.relative_to(folder).parts[0] not in _GIT
        and ours.isdisjoint((it.absolute(), *it.absolute().parents))
    ]


def shards_of(path: Path) -> list[Path]:
    """A file with all of its shards. SignatureError where one is missing."""
    try:
        return [*shard_paths(path)]
    except ModelError as error:
        raise SignatureError(error.problems) from error


def signed(root: Path, files: Sequence[Path], digests: Mapping[str, str]) -> SignedFiles:
    alone = root.is_file()
    return SignedFiles(
        folder=root.parent if alone else root,
        files={root.name if name == WHOLE else name: digest for name, digest in digests.items()},
        nbytes=sum(path.stat().st_size for path in files),
    )


def _name(path: Path, root: Path) -> str:
    return WHOLE if path == root else path.relative_to(root).as_posix()
