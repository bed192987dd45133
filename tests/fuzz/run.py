"""Fuzz targets, one after the other: python tests/fuzz/run.py; see README.md here."""

# ruff: noqa: T201  # a script prints

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.answers import FOLDER, MEMORY  # beside this script
from fuzz.engines import instrumented, mutated, with_coverage  # beside this script
from fuzz.watched import read_state

from quantrecipe.output.work_folder import work_folder

_WORTHWHILE = 20.0
"""Seconds for a target: atheris needs five to load the program."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="(default: all)")
    parser.add_argument("--seconds", type=float, help="for all targets together (default: 60)")
    parser.add_argument("--inputs", type=int, help="of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--coverage",
        action=argparse.BooleanOptionalAction,
        help="by atheris (default: if it is there, and has time)",
    )
    parser.add_argument("--counts", type=Path, metavar="FILE", help="add the counts to those in a file")
    parser.add_argument(
        "--play", type=Path, action="append", metavar="FILE", help="these inputs, and no others"
    )
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        instrumented(args.targets[0], args.seconds, args.inputs, args.seed)
        return 0
    from fuzz.targets import TARGETS

    if unknown := [name for name in args.targets if name not in TARGETS]:
        parser.error(f"there is no target {unknown[0]}; there are {', '.join(TARGETS)}")
    if args.list:
        for name, target in TARGETS.items():
            print(f"{name:17} {(target.__doc__ or '').splitlines()[0]}")
        return 0
    names = args.targets or list(TARGETS)
    for name in names if args.play else ():
        for path in args.play:
            start = time.process_time()
            TARGETS[name](path.read_bytes())
            print(f"{name} {path}: {time.process_time() - start:.3f} s")
    return 0 if args.play else campaign(names, args)


def campaign(names: list[str], args: argparse.Namespace) -> int:
    """Each target in a process of its own, which gets its share of the time."""
    seconds = 60.0 if args.seconds is None and args.inputs is None else args.seconds
    coverage = args.coverage
    if coverage is None:
        lasts = seconds is None or seconds / len(names) >= _WORTHWHILE
        coverage = lasts and importlib.util.find_spec("atheris") is not None
    end = None if seconds is None else time.monotonic() + seconds
    total, found = 0, []
    for number, name in enumerate(names):
        share = None if end is None else max(0.1, (end - time.monotonic()) / (len(names) - number))
        with work_folder(MEMORY, "fuzz") as folder:
            os.environ[FOLDER] = str(folder)
            status = (with_coverage if coverage else mutated)(name, share, args.inputs, args.seed)
        state = read_state(name, status)
        total += state["inputs"]
        found += state["found"]
        print(
            f"{name:17} {state['inputs']:>10,} inputs; slowest {state['slowest']:.2f} s; "
            f"{state['memory'] >> 20} MiB",
            flush=True,
        )
        for finding in state["found"]:
            print(f"FOUND {finding}", flush=True)
        if args.counts is not None:
            count(args.counts, name, state, "coverage" if coverage else "mutations")
    print(f"{total:,} inputs, {len(found)} findings")
    return bool(found)


def count(path: Path, name: str, state: dict[str, object], engine: str) -> None:
    """Add to the file: inputs by engine, and the largest of the rest."""
    counts = json.loads(path.read_text()) if path.exists() else {}
    own = counts.setdefault(name, {})
    own[engine] = own.get(engine, 0) + state["inputs"]
    for what in ("slowest", "memory"):
        own[what] = max(own.get(what, 0), state[what])
    path.write_text(json.dumps(counts, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
