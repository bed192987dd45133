"""How large the house is: files and lines by folder, and what a change adds or takes away.

    python tools/size_report.py               the working tree, against the base branch
    python tools/size_report.py --base v0.1.0

A line of code is a line that holds a token of Python other than a comment or a docstring: layout and explanations are
free, so nobody is tempted to save on them. `.ci/run` prints this report. It judges nothing; a reviewer does.

The base is the commit where this branch left the base branch, which is the one that GITHUB_BASE_REF names, or else
origin/main, or else main. On that branch itself, the base is the commit before.
"""

# ruff: noqa: T201  # a script prints

from __future__ import annotations

import argparse
import ast
import io
import os
import subprocess
import tarfile
import tokenize
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
LAYOUT = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """What some files come to."""

    files: int = 0
    code: int = 0
    explained: int = 0  # lines with a comment or within a docstring

    def __add__(self, other: Size) -> Size:
        return Size(
            files=self.files + other.files,
            code=self.code + other.code,
            explained=self.explained + other.explained,
        )


def size_of(source: str) -> Size:
    """One Python file. Raises SyntaxError if it isn't one."""
    code: set[int] = set()
    explained: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        lines = range(token.start[0], token.end[0] + 1)
        if token.type == tokenize.COMMENT:
            explained.update(lines)
        elif token.type not in LAYOUT:
            code.update(lines)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if ast.get_docstring(node) is not None and first is not None and first.end_lineno is not None:
                docstring = set(range(first.lineno, first.end_lineno + 1))
                code -= docstring
                explained |= docstring
    return Size(files=1, code=len(code), explained=len(explained))


def folder_of(path: PurePosixPath) -> str:
    """The folder that a file is counted in: two levels of the package and of tests/, three of a plugin."""
    depth = 3 if path.parts[0] == "plugins" else 2
    return "/".join(path.parts[:-1][:depth]) or "."


def sizes(files: Iterable[tuple[str, str]]) -> dict[str, Size]:
    """Folder → what its files come to; `files` are (path from the root, source)."""
    found: dict[str, Size] = defaultdict(Size)
    for path, source in files:
        found[folder_of(PurePosixPath(path))] += size_of(source)
    return found


def git(*arguments: str) -> str:
    """What a git command prints. Raises CalledProcessError."""
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout.strip()


def working_tree() -> Iterable[tuple[str, str]]:
    """The files that git knows or would add."""
    for path in git("ls-files", "--cached", "--others", "--exclude-standard", "*.py").splitlines():
        file = ROOT / path
        if file.is_file():  # one that is removed, but not in the index yet, isn't
            yield path, file.read_text(encoding="utf-8")


def revision(name: str) -> Iterable[tuple[str, str]]:
    """The files of a revision, through one process of git instead of one for each file."""
    archive = subprocess.run(
        ["git", "archive", "--format=tar", name], cwd=ROOT, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".py") else None
            if file is not None:
                yield member.name, file.read().decode("utf-8")


def base_revision() -> str | None:
    """The commit that a change is compared with, or None in a clone that has no other commit."""
    named = os.environ.get("GITHUB_BASE_REF")
    for branch in (f"origin/{named}" if named else None, "origin/main", "main"):
        if branch is None:
            continue
        try:
            commit = git("merge-base", "HEAD", branch)
        except subprocess.CalledProcessError:
            continue
        if commit != git("rev-parse", "HEAD"):
            return commit
    try:
        return git("rev-parse", "HEAD^")
    except subprocess.CalledProcessError:  # the first commit, or a clone of depth 1
        return None


def report(now: dict[str, Size], before: dict[str, Size] | None) -> str:
    """The table: one line for each folder, those of the package first, and the sums."""
    rows = [("folder", "files", "code", "explained", "change")]

    def row(name: str, size: Size, old: Size | None) -> None:
        change = "" if old is None or size.code == old.code else f"{size.code - old.code:+,}"
        share = size.explained / max(1, size.code)
        rows.append((name, f"{size.files:,}", f"{size.code:,}", f"{share:.0%}", change))

    def total(sizes: dict[str, Size], folders: Iterable[str]) -> Size:
        return sum((sizes.get(folder, Size()) for folder in folders), Size())

    names = sorted(now.keys() | (before or {}).keys())
    shipped = [name for name in names if name.startswith("quantrecipe") or name.endswith("/src")]
    others = [name for name in names if name not in shipped]
    for name in shipped:
        row(name, now.get(name, Size()), None if before is None else before.get(name, Size()))
    row("what is shipped", total(now, shipped), None if before is None else total(before, shipped))
    for top in sorted({name.split("/")[0] for name in others}):
        inside = [name for name in others if name.split("/")[0] == top]
        row(top, total(now, inside), None if before is None else total(before, inside))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", metavar="REV", help="the revision to compare with")
    base = parser.parse_args().base or base_revision()
    before = None if base is None else sizes(revision(base))
    print(
        "against",
        "nothing: there is no earlier commit here"
        if base is None
        else git("log", "-1", "--format=%h %s", base),
    )
    print(report(sizes(working_tree()), before))


if __name__ == "__main__":
    main()
