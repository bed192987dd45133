"""Run every plugin of the repository with this quantrecipe, and with the oldest that its pyproject.toml allows.

    python .ci/plugins.py

Each plugin gets a virtual environment of its own for each of the two. The oldest is built from the git tag of its
version; where that is the version that the working tree has itself, both are the same and one run does. In both, the
plugin's own tests run, and `quantrecipe check-plugin`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent


def oldest_version(plugin: Path) -> str:
    """The lower bound of `quantrecipe>=…` among the plugin's dependencies."""
    dependencies = _project(plugin)["dependencies"]
    for dependency in dependencies:
        if match := re.fullmatch(r"quantrecipe\s*>=\s*([0-9.]+)(,.*)?", dependency):
            return match[1]
    raise SystemExit(
        f"{plugin / 'pyproject.toml'}: its dependencies name no oldest version: quantrecipe>=0.1"
    )


def same_release(one: str, other: str) -> bool:
    """0.1 is 0.1.0."""
    return _numbers(one) == _numbers(other)


def tag_of(version: str, tags: list[str]) -> str:
    """The git tag of a version: v0.1 or v0.1.0."""
    for tag in tags:
        if tag.startswith("v") and re.fullmatch(r"v[0-9.]+", tag) and same_release(tag[1:], version):
            return tag
    raise SystemExit(
        f"no git tag says which commit was quantrecipe {version} (fetch the tags: git fetch --tags)"
    )


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _project(folder: Path) -> dict[str, list[str]]:
    project: dict[str, list[str]] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    return project


def _run(*command: str | Path, cwd: Path = ROOT) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=cwd)


def _test(plugin: Path, quantrecipe: Path, name: str) -> None:
    """Install both in a new environment, and run the plugin's tests and the conformance kit there."""
    click.echo(f"--- {plugin.name} with quantrecipe {name}")
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        _run(python, "-m", "pip", "install", "--quiet", quantrecipe, f"{plugin}[test]")
        _run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=plugin)
        _run(python, "-m", "quantrecipe", "check-plugin", plugin.name)


def main() -> None:
    current = str(_project(ROOT)["version"])
    tags = subprocess.run(["git", "tag"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    for plugin in sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml")):
        _test(plugin, ROOT, f"{current} (this tree)")
        oldest = oldest_version(plugin)
        if same_release(oldest, current):
            click.echo(f"    {current} is also the oldest that it allows")
            continue
        with tempfile.TemporaryDirectory() as folder:
            old = Path(folder) / "quantrecipe"
            _run("git", "worktree", "add", "--detach", old, tag_of(oldest, tags))
            try:
                _test(plugin, old, oldest)
            finally:
                _run("git", "worktree", "remove", "--force", old)


if __name__ == "__main__":
    main()
