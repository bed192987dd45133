"""Where the files of a recipe are read from: the disk, or a revision of a git repository.

    recipes/x.yaml            the disk
    main:recipes/x.yaml       as git has it at `main`, the path counted from the top of the repository
    main:./x.yaml             the same, the path counted from the current folder
    :recipes/x.yaml           as it is staged

What a recipe extends by path is read where the recipe itself was. Shipped recipes are those that are installed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from quantrecipe.errors import RecipeError

__all__ = ["DISK", "GitTree", "Tree", "find_revision", "git_output", "is_revision", "read_revision"]

_GIT_SECONDS = 60
"""git answers at once, unless it waits for a lock or a password."""


class Tree(Protocol):
    """Files by path. `prefix` is what messages put before a path: "main:", or nothing."""

    @property
    def prefix(self) -> str: ...

    def is_file(self, path: Path) -> bool:
        """Say whether there is such a file; False for any text that can't be a path."""

    def identity(self, path: Path) -> str:
        """Return a text that is equal for the same file under several names."""

    def read(self, path: Path, limit: int) -> bytes:
        """Read the first `limit` bytes. RecipeError, without the file's name, if there is no such file."""


class _Disk:
    prefix = ""

    def is_file(self, path: Path) -> bool:
        return os.path.isfile(path)  # noqa: PTH113  # Path.is_file raises for names that are too long

    def identity(self, path: Path) -> str:
        return os.path.realpath(path)  # Path.resolve raises where links go round

    def read(self, path: Path, limit: int) -> bytes:
        if not self.is_file(path):  # opening a pipe would wait for ever
            what = "this is a folder, not a recipe" if os.path.isdir(path) else "there is no such recipe"  # noqa: PTH112  # as above
            raise RecipeError(what, "check the path")
        try:
            with path.open("rb") as stream:
                return stream.read(limit)
        except OSError as error:
            raise RecipeError(f"can't be read: {error.strerror}", "check its permissions") from None


DISK: Tree = _Disk()
"""The files that are there now."""


@dataclass(frozen=True, slots=True)
class GitTree:
    """A revision of the repository whose work tree is `root`; revision "" is what is staged."""

    root: Path
    revision: str

    @property
    def prefix(self) -> str:
        return f"{self.revision}:"

    def is_file(self, path: Path) -> bool:
        return self._ask(path, "--batch-check").split(b" ")[1:2] == [b"blob"]

    def identity(self, path: Path) -> str:
        return f"{self.prefix}{os.path.normpath(path)}"

    def read(self, path: Path, limit: int) -> bytes:
        head, _, body = self._ask(path, "--batch").partition(b"\n")
        words = head.split(b" ")
        if len(words) != 3 or words[1] != b"blob":
            folder = words[1:2] == [b"tree"]
            what = "this is a folder, not a recipe" if folder else "there is no such file at this revision"
            raise RecipeError(what, f"`git ls-tree -r --name-only {self.revision or 'HEAD'}` lists the files")
        return body[: min(int(words[2]), limit)]

    def _ask(self, path: Path, mode: str) -> bytes:
        """Return what `git cat-file` says of a path: "HASH blob SIZE", and the content. Links are followed."""
        inside = Path(os.path.relpath(os.path.normpath(path), self.root)).as_posix()
        if not inside.isprintable() or inside.startswith("../"):
            return b""
        return git_output(["cat-file", mode, "--follow-symlinks"], self.root, f"{self.prefix}{inside}\n")


def is_revision(text: str) -> bool:
    """Say whether a text is `REVISION:PATH`, and there is no file of that name."""
    revision, colon, path = text.partition(":")
    drive = os.name == "nt" and len(revision) == 1
    return bool(colon and path and not path.startswith("//") and not drive) and not os.path.lexists(text)


def find_revision(text: str) -> tuple[GitTree, Path]:
    """Return the tree that `REVISION:PATH` names, and the path in the work tree. RecipeError if there is none."""
    revision, _, path = text.partition(":")
    if not text.isprintable() or revision.startswith("-"):
        raise RecipeError(f"{text[:60]!r} is no path at a revision", "write main:recipes/mine.yaml")
    here = Path.cwd()
    root = Path(git_output(["rev-parse", "--show-toplevel"], here).decode().removesuffix("\n"))
    if revision:
        try:
            git_output(["rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"], here)
        except RecipeError as error:
            what = f"git knows no revision {revision!r} (asked for by {text!r})"
            raise RecipeError(what, "a shallow clone may have to fetch it; a path needs no colon") from error
    folder = here if path.startswith(("./", "../")) else root
    return GitTree(root, revision), Path(os.path.normpath(folder / path))


def read_revision(text: str, limit: int) -> bytes:
    """Read the first `limit` bytes of `REVISION:PATH`. RecipeError if there is no such file."""
    tree, path = find_revision(text)
    try:
        return tree.read(path, limit)
    except RecipeError as error:
        raise RecipeError(error.at(text)) from None


def git_output(arguments: list[str], folder: Path, text: str = "") -> bytes:
    """Return what git prints. RecipeError if it fails, or isn't installed."""
    import subprocess  # for those who name a revision: most recipes lie on the disk

    try:
        result = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            input=text.encode(),
            capture_output=True,
            check=False,
            timeout=_GIT_SECONDS,
        )
    except FileNotFoundError:
        raise RecipeError(
            "git isn't installed, and a revision was named", "install it, or give a file"
        ) from None
    except subprocess.TimeoutExpired:
        raise RecipeError(f"git {arguments[0]} takes more than {_GIT_SECONDS} s", "is it waiting?") from None
    if result.returncode:
        said = result.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise RecipeError(
            f"git {arguments[0]} failed: {said or 'no such thing'}", "name a file, or a revision of git"
        )
    return result.stdout
