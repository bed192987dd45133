"""The copy of the repository that mutants are tried on, and pytest in it. The working tree is only read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["Tree"]

_LEFT_BEHIND = shutil.ignore_patterns(
    ".git",
    ".venv",
    ".cache",
    ".mutants",
    ".hypothesis",
    ".*_cache",
    "__pycache__",
    "build",
    "dist",
    "*.egg-info",
)
_TOOLS = Path(__file__).parents[2]


class Tree:
    """cache: what is kept between runs. root: the copy. package: the folder of the package in it."""

    def __init__(self, original: Path, package: str, cache: Path) -> None:
        self.cache = cache.absolute()
        self.root = self.cache / "tree"
        self.package = self.root / package
        if self.root.exists():
            shutil.rmtree(self.root)
        shutil.copytree(original, self.root, ignore=_LEFT_BEHIND)

    def name(self, path: Path) -> str:
        """The path within the repository."""
        return path.relative_to(self.root).as_posix()

    def digest(self, paths: Iterable[Path]) -> str:
        """Of the names and contents of files."""
        total = hashlib.sha256()
        for path in paths:
            total.update(self.name(path).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()

    def pytest(
        self, task: dict[str, Any], files: Sequence[Path], *, timeout: float | None
    ) -> tuple[int | None, str]:
        """Run test files with the plugin; the exit code, None after a timeout, and what was printed."""
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            at = Path(folder, "task.json")
            at.write_text(json.dumps(task), encoding="utf-8")
            command = [
                sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=no", "-p", "tools.mutants.plugin",
                "-p", "no:cacheprovider", "-n", "0", "-p", "no:cov", f"--basetemp={folder}/tests",
                *(["-x"] if "module" in task else []), *map(self.name, files),
            ]  # fmt: skip
            # the package comes from the copy, which `-m pytest` puts before all else; the plugin from here
            paths = os.pathsep.join((str(self.root), str(_TOOLS)))
            environment = os.environ | {
                "QUANTRECIPE_MUTANTS": str(at), "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1",
            }  # fmt: skip
            printed = Path(folder, "printed")
            with printed.open("wb") as output:
                process = subprocess.Popen(
                    command, cwd=self.root, env=environment, start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                )  # fmt: skip
            code = None
            try:
                with suppress(subprocess.TimeoutExpired):
                    code = process.wait(timeout)
            finally:
                _end(process)
            return code, printed.read_text(encoding="utf-8", errors="replace")


def _end(process: subprocess.Popen[str]) -> None:
    """End what the tests started, too: it is all of one process group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
