"""Small git repositories of recipes, as a pull request finds them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

__all__ = ["Repository"]

_ALONE = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}
"""Nobody's own configuration counts."""


class Repository:
    """A repository with the branch main checked out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        """What git prints."""
        result = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env={**os.environ, **_ALONE},
            capture_output=True,
            text=True,
            check=True,
        )
        return result.stdout.strip()

    def write(self, **files: str) -> None:
        """Recipes by name, in the folder recipes; each gets the keys that all have."""
        for name, text in files.items():
            path = self.folder / "recipes" / f"{name}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"quantrecipe: 1\nname: {name}\n{text}", encoding="utf-8")

    def commit(self, message: str = "a change") -> str:
        """Everything that is there; the commit's hash."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")
