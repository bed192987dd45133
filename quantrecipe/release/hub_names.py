"""What the Hugging Face hub takes for names of repositories and files, asked before anything is made or sent.

Source: huggingface_hub's validators (`utils/_validators.py`, `_commit_api.py`), and the hub's page on storage limits.
"""

from __future__ import annotations

import re

__all__ = ["LARGEST_FILE", "file_name_problem", "path_problem", "repo_problem"]

LARGEST_FILE = 50 * 10**9
"""Bytes of a file: what the hub's page on storage limits allows."""

_LONGEST_REPO = 96
_LONGEST_NAME = 200
_PART = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?", re.ASCII)
_NAME = re.compile(r"[\w.+-]+", re.ASCII)
_FORBIDDEN = (".git", ".cache", "..", ".", "")
"""Folders that the hub keeps for itself."""


def repo_problem(repo: str) -> str:
    """What is wrong with OWNER/NAME, as the end of a sentence; "" for nothing."""
    owner, slash, name = repo.partition("/")
    if not slash or "/" in name or not owner or not name:
        return "is no OWNER/NAME"
    for part in (owner, name):
        if not _PART.fullmatch(part):
            return f"has {part!r} in it: the hub takes letters, digits, and within a name `-`, `_` and `.`"
        if len(part) > _LONGEST_REPO:
            return f"is longer than the {_LONGEST_REPO} characters that the hub allows"
    if "--" in repo or ".." in repo:
        return "has -- or .. in it, which the hub refuses"
    if name.lower().endswith(".git"):
        return "ends with .git, which the hub refuses"
    return ""


def file_name_problem(name: str) -> str:
    """What is wrong with the name of a file in a release, as the end of a sentence; "" for nothing.

    Stricter than the hub: such names need no quotes in a shell, and are the same on every system.
    """
    if not _NAME.fullmatch(name):
        return "may have letters of ASCII, digits, and `-`, `_`, `.` and `+` only"
    if name.startswith((".", "-")):
        return "begins with a point or a dash"
    if len(name) > _LONGEST_NAME:
        return f"is longer than {_LONGEST_NAME} characters"
    return ""


def path_problem(path: str) -> str:
    """What keeps a file of this path in a folder from being published; "" for nothing."""
    parts = path.split("/")
    if any(part in _FORBIDDEN for part in parts):
        return "is in a folder that the hub keeps for itself"
    if not path.isprintable() or "\\" in path:
        return "has signs in its name that the hub, or a system, doesn't take"
    return ""
