"""Which tests run which line of the source: measured once under coverage.py, and kept by test file.

What was measured of a test file holds as long as the file, the conftest.py files above it, the helpers in tests/support
that it imports, and the measured folders are what they were.
"""

# ruff: noqa: T201  # a script prints

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.mutants.tree import Tree

__all__ = ["Reach", "measure"]

_SUPPORT = re.compile(r"^from support\.(\w+) import", re.MULTILINE)


@dataclass(kw_only=True)
class Reach:
    """seconds: of each test that passes. tests: by source file and line. imported: lines that run at the import."""

    seconds: dict[str, float] = field(default_factory=dict)
    tests: dict[str, dict[int, set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    imported: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    _folders: dict[Path, set[str]] = field(default_factory=lambda: defaultdict(set))

    def tests_of(self, path: str, lines: tuple[int, int], header: tuple[int, int]) -> set[str]:
        """The tests that run a place.

        What runs at the import, such as a table, is looked at by tests that run anything of the file, and by those that
        stand in the same folder of tests: a table may be all that they ask for.

        A statement over several lines isn't told line by line in all cases; its first lines then answer for it.
        """
        by_line = self.tests.get(path, {})
        for first, last in (lines, header):
            found = {test for line in range(first, last + 1) for test in by_line.get(line, ())}
            if found:
                return found
        if self.imported.get(path, set()).isdisjoint(range(header[0], header[1] + 1)):
            return set()
        return {test for tests in by_line.values() for test in tests} | self._beside(path)

    def _beside(self, path: str) -> set[str]:
        if not self._folders:
            for test in self.seconds:
                self._folders[Path(test.partition("::")[0]).parent].add(test)
        return self._folders[Path("tests", *Path(path).parts[1:-1])]


def measure(tree: Tree, folders: Sequence[str], test_folders: Sequence[str]) -> Reach:
    """What is known from before, and what has to be measured now."""
    sources = [tree.package / folder for folder in folders]
    state = tree.digest(path for source in sources for path in sorted(source.rglob("*.py")))
    files = [file for folder in test_folders for file in sorted((tree.root / folder).rglob("test_*.py"))]
    kept = {file: tree.cache / "measured" / f"{_digest(state, *_behind(tree, file))}.json" for file in files}
    missing = [file for file, shard in kept.items() if not shard.exists()]
    if missing:
        print(f"measuring {len(missing)} test files", flush=True)
        _measure(tree, sources, missing, kept)
    reach = Reach()
    for shard in kept.values():
        _add(reach, json.loads(shard.read_text(encoding="utf-8")))
    return reach


def _measure(tree: Tree, sources: Sequence[Path], files: Sequence[Path], kept: dict[Path, Path]) -> None:
    result = tree.cache / "measurement.json"
    result.unlink(missing_ok=True)
    packages = [".".join((tree.package.name, *source.relative_to(tree.package).parts)) for source in sources]
    task = {"measure": str(result), "sources": [str(it) for it in sources], "packages": packages}
    code, output = tree.pytest(task, files, timeout=None)
    if not result.exists() or code not in (0, 1):
        raise SystemExit(f"the tests can't be measured:\n{output[-3000:]}")
    if code == 1:
        print(f"some tests fail, and are left out:\n{output[-1500:]}", flush=True)
    measured = json.loads(result.read_text(encoding="utf-8"))
    lines = {tree.name(Path(file)): by_test for file, by_test in measured["lines"].items()}
    for file in files:
        own = tree.name(file) + "::"
        shard: dict[str, Any] = {
            "seconds": {test: took for test, took in measured["seconds"].items() if test.startswith(own)},
            "lines": {
                source: {test: at for test, at in by_test.items() if test.startswith(own) or not test}
                for source, by_test in lines.items()
            },
        }
        kept[file].parent.mkdir(exist_ok=True)
        kept[file].write_text(json.dumps(shard), encoding="utf-8")


def _add(reach: Reach, shard: dict[str, Any]) -> None:
    reach.seconds |= shard["seconds"]
    for source, by_test in shard["lines"].items():
        for test, lines in by_test.items():
            if not test:
                reach.imported[source].update(lines)
            elif test in shard["seconds"]:
                for line in lines:
                    reach.tests[source][line].add(test)


def _behind(tree: Tree, file: Path) -> Iterator[str | bytes]:
    """The name and the content of the test file, and of what it stands on."""
    yield tree.name(file)
    found = {file}
    for folder in file.parents[: len(file.relative_to(tree.root).parts) - 1]:
        found |= {it for it in (folder / "conftest.py",) if it.exists()}
    new = set(found)
    while new:
        names = {name for path in new for name in _SUPPORT.findall(path.read_text(encoding="utf-8"))}
        new = {it for name in names if (it := tree.root / "tests/support" / f"{name}.py").exists()} - found
        found |= new
    for path in sorted(found):
        yield path.read_bytes()


def _digest(*parts: str | bytes) -> str:
    return hashlib.sha256(b"\0".join(it.encode() if isinstance(it, str) else it for it in parts)).hexdigest()[
        :24
    ]
