"""The mutants of folders, and a seeded sample of them in proportion to folders and operators."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor, sqrt
from pathlib import Path

from tools.mutants.changes import Change, changed, changes, is_program
from tools.mutants.measure import Reach
from tools.mutants.tree import Tree

__all__ = ["Mutant", "mutants", "sample", "wilson"]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A change of a file. identity: tells it from all others, wherever in the file it moves. tests: that run it."""

    path: str
    folder: str
    change: Change
    source: str
    identity: str
    tests: frozenset[str]

    @property
    def diff(self) -> tuple[str, str]:
        """The lines before and after."""
        first, last = self.change.lines
        after = changed(self.source, self.change).splitlines()
        extra = len(after) - len(self.source.splitlines())
        return _text(self.source.splitlines()[first - 1 : last]), _text(after[first - 1 : last + extra])


def mutants(tree: Tree, folders: Sequence[str], reach: Reach) -> Iterator[Mutant]:
    """All of lines that tests reach."""
    for folder in folders:
        for path in sorted((tree.package / folder).rglob("*.py")):
            yield from _of_file(tree.name(path), folder, path, reach)


def sample(found: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` of them: each folder's share of each operator is what it is among all.

    The order within a folder and operator is that of digests with the seed: a change of one file leaves the rest of the
    sample nearly as it was.
    """
    strata: dict[tuple[str, str], list[Mutant]] = defaultdict(list)
    for mutant in found:
        strata[mutant.folder, mutant.change.operator].append(mutant)
    share = min(1.0, count / max(1, len(found)))
    quota = {key: floor(len(members) * share) for key, members in strata.items()}
    by_rest = sorted(strata, key=lambda key: (quota[key] - len(strata[key]) * share, key))
    for key in by_rest[: min(count, len(found)) - sum(quota.values())]:
        quota[key] += 1
    drawn = []
    for key, members in sorted(strata.items()):
        ordered = sorted(members, key=lambda it: _digest(str(seed), it.identity))
        programs = (it for it in ordered if is_program(it.source, it.change))
        drawn += [it for it, _ in zip(programs, range(quota[key]), strict=False)]
    return drawn


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    if not of:
        return 0.0, 1.0
    z, share = 1.959964, hits / of
    middle = share + z * z / (2 * of)
    half = z * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)


def _of_file(name: str, folder: str, path: Path, reach: Reach) -> Iterator[Mutant]:
    source = path.read_text(encoding="utf-8")
    raw = source.encode()
    seen: dict[tuple[str, ...], int] = defaultdict(int)
    for change in changes(source):
        what = (name, change.scope, change.operator, raw[change.start : change.end].decode(), change.text)
        seen[what] += 1  # the same change at several places of a function
        tests = reach.tests_of(name, change.lines, change.header)
        if tests:
            identity = _digest(*what, str(seen[what]))
            yield Mutant(
                path=name,
                folder=folder,
                change=change,
                source=source,
                identity=identity,
                tests=frozenset(tests),
            )


def _text(lines: Sequence[str]) -> str:
    return "\n".join(line.strip() for line in lines)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
