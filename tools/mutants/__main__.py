"""The command line; the package's docstring explains it."""

# ruff: noqa: T201  # a script prints

from __future__ import annotations

import argparse
import fcntl
from pathlib import Path

from tools.mutants.measure import measure
from tools.mutants.report import read_reasons, report
from tools.mutants.sample import mutants, sample
from tools.mutants.tree import Tree
from tools.mutants.trial import Journal, check, control, try_all

ROOT = Path(__file__).parents[2]
FOLDERS = ("plan", "output", "recipe", "importance", "gguf", "model")
MEASURED = ("allocate", *FOLDERS)
"""Their tests run lines of each other's. allocate/ has searches whose pruning changes no result: ask for it by name."""


def main() -> None:
    """Measure, draw, try, report."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument("folders", nargs="*", default=FOLDERS, help="of the package (%(default)s)")
    parser.add_argument("-n", "--count", type=int, default=400, help="mutants (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (%(default)s)")
    parser.add_argument("--limit", type=float, default=60, help="seconds of tests for a mutant (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time (%(default)s)")
    parser.add_argument("--tests", nargs="+", help="folders of tests (tests/FOLDER for each measured folder)")
    parser.add_argument("--report", action="store_true", help="only what the journal knows")
    parser.add_argument("--root", type=Path, default=ROOT, help="repository (%(default)s)")
    parser.add_argument("--package", default="quantrecipe", help="(%(default)s)")
    parser.add_argument("--cache", type=Path, help="what is kept between runs (ROOT/.mutants)")
    options = parser.parse_args()
    cache = options.cache or options.root / ".mutants"
    cache.mkdir(exist_ok=True)
    lock = (cache / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        parser.error(f"another run uses {cache}")
    tree = Tree(options.root, options.package, cache)
    # always the same folders are measured, so that a run on one of them needn't measure again
    measured = [it for it in dict.fromkeys((*MEASURED, *options.folders)) if (tree.package / it).is_dir()]
    tests = options.tests or [f"tests/{folder}" for folder in measured]
    reach = measure(tree, measured, tests)
    found = list(mutants(tree, options.folders, reach))
    drawn = sample(found, options.count, options.seed)
    print(f"{len(drawn)} of {len(found)} mutants of lines that tests reach, seed {options.seed}", flush=True)
    journal = Journal(cache / "journal.jsonl")
    if not options.report:
        check(tree, reach)
        try_all(drawn, tree, reach, journal, limit=options.limit, jobs=options.jobs)
    pairs = [(it, found) for it in drawn if (found := journal.of(it, tree, reach, options.limit)) is not None]
    reasons = read_reasons(options.root / "tools/mutants/survivors.toml")
    print("\n".join(report(pairs, reasons, control((it for _, it in pairs), tree))))


if __name__ == "__main__":
    main()
