"""One mutant: the tests that run it, fastest first, until one fails; what came of it is a line of the journal."""

# ruff: noqa: T201  # a script prints

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from time import monotonic

from tools.mutants.changes import changed
from tools.mutants.measure import Reach
from tools.mutants.sample import Mutant
from tools.mutants.tree import Tree

__all__ = ["Journal", "Outcome", "check", "control", "try_all"]

KILLED = ("failed", "not collected", "timeout", "crashed")
_STEPS = (0.02, 0.1, 0.5, 2.0, 10.0)
"""Tests that take about as long are run file by file, so that the fixtures of a file are made once."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a mutant: one of KILLED, or `survived`. by: the test that failed. left_out: tests over the limit."""

    identity: str
    file: str
    tests: str
    what: str
    by: str
    run: int
    left_out: int
    seconds: float

    @property
    def killed(self) -> bool:
        return self.what in KILLED


class Journal:
    """Outcomes, one JSON object a line; the last one of a mutant counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._known: dict[str, Outcome] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                outcome = Outcome(**json.loads(line))
            except (ValueError, TypeError):  # the end of a run that was killed while it wrote
                continue
            self._known[outcome.identity] = outcome

    def add(self, outcome: Outcome) -> None:
        with self._lock:
            self._known[outcome.identity] = outcome
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")

    def of(self, mutant: Mutant, tree: Tree, reach: Reach, limit: float) -> Outcome | None:
        """What is known of the mutant, and still holds."""
        found = self._known.get(mutant.identity)
        if found is None or found.file != _file(mutant):
            return None
        return found if found.killed or found.tests == _tests(mutant, tree, reach, limit) else None


def try_all(
    mutants: Sequence[Mutant], tree: Tree, reach: Reach, journal: Journal, *, limit: float, jobs: int
) -> list[Outcome]:
    """The outcomes of the mutants: from the journal, or tried now."""
    todo = [it for it in mutants if journal.of(it, tree, reach, limit) is None]
    done = 0

    def one(mutant: Mutant) -> None:
        nonlocal done
        outcome = _try(mutant, tree, reach, limit)
        journal.add(outcome)
        done += 1
        where = f"{mutant.path}:{mutant.change.lines[0]}"
        print(
            f"{done}/{len(todo)} {outcome.what:13} {outcome.seconds:5.1f} s  {mutant.change.operator:11} {where}",
            flush=True,
        )

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, todo))
    outcomes = [journal.of(it, tree, reach, limit) for it in mutants]
    return [it for it in outcomes if it is not None]


def check(tree: Tree, reach: Reach) -> None:
    """Stop where not even the unchanged program passes its fastest tests: then every mutant would seem to be killed."""
    tests = sorted(reach.seconds, key=lambda it: (reach.seconds[it], it))[:3]
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        files = sorted({tree.root / test.partition("::")[0] for test in tests})
        task = {"tests": tests, "result": str(Path(folder, "result.json"))}
        code, output = tree.pytest(task, files, timeout=None)
    if code != 0:
        raise SystemExit(f"the tests don't pass on the program as it is:\n{output[-2000:]}")


def control(outcomes: Iterable[Outcome], tree: Tree) -> set[str]:
    """Of the tests that killed mutants: those that fail on the program as it is, too."""
    tests = sorted({it.by for it in outcomes if it.by})
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        result = Path(folder, "result.json")
        files = sorted({tree.root / test.partition("::")[0] for test in tests})
        if files:
            tree.pytest({"tests": tests, "result": str(result)}, files, timeout=None)
            return set(json.loads(result.read_text(encoding="utf-8"))["failed"])
    return set()


def _try(mutant: Mutant, tree: Tree, reach: Reach, limit: float) -> Outcome:
    chosen = _chosen(mutant, reach, limit)
    # The machine may be busy, and a plain run is faster than the measured one: far too long is far from both.
    timeout = 60 + 5 * sum(reach.seconds[test] for test in chosen)
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        source, result = Path(folder, "changed.py"), Path(folder, "result.json")
        source.write_text(changed(mutant.source, mutant.change), encoding="utf-8")
        task = {
            "module": mutant.path.removesuffix(".py").removesuffix("/__init__").replace("/", "."),
            "file": str(tree.root / mutant.path),
            "source": str(source),
            "tests": chosen,
            "result": str(result),
        }
        began = monotonic()
        files = sorted({tree.root / test.partition("::")[0] for test in chosen})
        code, _ = tree.pytest(task, files, timeout=timeout)
        known = (
            json.loads(result.read_text(encoding="utf-8")) if result.exists() else {"failed": [], "run": 0}
        )
    what = {
        None: "timeout",
        0: "survived",
        1: "failed",
        2: "not collected",
        4: "not collected",
        5: "survived",
    }
    return Outcome(
        identity=mutant.identity,
        file=_file(mutant),
        tests=_tests(mutant, tree, reach, limit),
        what=what.get(code, "crashed"),
        by=known["failed"][0] if code == 1 and known["failed"] else "",
        run=known["run"],
        left_out=len(mutant.tests) - len(chosen),
        seconds=round(monotonic() - began, 1),
    )


def _chosen(mutant: Mutant, reach: Reach, limit: float) -> list[str]:
    """The tests of the module's own file, then the fastest others; of `limit` seconds together, but one at least."""
    own = f"/test_{Path(mutant.path).stem}.py::"
    total, chosen = 0.0, []
    for test in sorted(mutant.tests, key=lambda it: (own not in it, reach.seconds[it], it)):
        total += reach.seconds[test]
        if chosen and total > limit:
            break
        chosen.append(test)
    return sorted(
        chosen, key=lambda it: (_step(reach.seconds[it]), it.partition("::")[0], reach.seconds[it], it)
    )


def _step(seconds: float) -> int:
    return sum(seconds > it for it in _STEPS)


def _file(mutant: Mutant) -> str:
    return hashlib.sha256(mutant.source.encode()).hexdigest()[:20]


def _tests(mutant: Mutant, tree: Tree, reach: Reach, limit: float) -> str:
    """Of the files whose tests are chosen."""
    return tree.digest(sorted({tree.root / it.partition("::")[0] for it in _chosen(mutant, reach, limit)}))[
        :20
    ]
