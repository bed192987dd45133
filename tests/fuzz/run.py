"""Fuzz targets, side by side or one after the other: python tests/fuzz/run.py; see README.md here."""

# ruff: noqa: T201  # a script prints

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import random
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

FINDINGS = Path(__file__).parent / "findings"
WORDS = Path(__file__).parent / "words.txt"
MEMORY = 1 << 30
"""Bytes that inputs may take, over what the program has once everything is loaded."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="(default: all)")
    parser.add_argument(
        "--play", type=Path, action="append", metavar="FILE", help="these inputs, and no others"
    )
    parser.add_argument("--seconds", type=float, help="for all targets together")
    parser.add_argument("--inputs", type=int, help="of each target")
    parser.add_argument(
        "--coverage", action=argparse.BooleanOptionalAction, help="by atheris (default: if it is there)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.coverage is None:
        args.coverage = importlib.util.find_spec("atheris") is not None
    if args.inside:
        return fuzz_target(args.targets[0], args.seconds, args.inputs, True, args.seed)
    from fuzz.targets import TARGETS

    if unknown := [name for name in args.targets if name not in TARGETS]:
        parser.error(f"there is no target {unknown[0]}; there are {', '.join(TARGETS)}")
    if args.list:
        for name, target in TARGETS.items():
            print(f"{name:17} {(target.__doc__ or '').splitlines()[0]}")
        return 0
    names = args.targets or list(TARGETS)
    if args.play:
        return max(played(name, path) for name in names for path in args.play)
    if args.seconds is None and args.inputs is None:
        args.seconds = 60.0
    return campaign(names, args.seconds, args.inputs, coverage=args.coverage, seed=args.seed)


def campaign(
    names: list[str], seconds: float | None, inputs: int | None, *, coverage: bool, seed: int
) -> int:
    """Each target in a process of its own, which gets its share of the time."""
    total, found, end = 0, [], None if seconds is None else time.monotonic() + seconds
    for number, name in enumerate(names):
        share = None if end is None else max(0.1, (end - time.monotonic()) / (len(names) - number))
        said = (instrumented if coverage else forked)(name, share, inputs, seed)
        total += said.get("inputs", 0)
        found += said["found"]
        memory = f"{said.get('memory', 0) >> 20} MiB over the start"
        print(
            f"{name:17} {said.get('inputs', 0):>10,} inputs, slowest {said.get('slowest', 0):.2f} s, {memory}",
            flush=True,
        )
    for finding in found:
        print(f"FOUND {finding}")
    print(f"{total:,} inputs, {len(found)} findings")
    return bool(found)


def instrumented(name: str, seconds: float | None, inputs: int | None, seed: int) -> dict[str, Any]:
    """A target in a new process, whose modules are loaded with counters in them."""
    command = [sys.executable, __file__, name, "--inside", f"--seed={seed}"]
    command += [f"--seconds={seconds}"] if seconds is not None else []
    command += [f"--inputs={inputs}"] if inputs is not None else []
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return said_by(name, result.stdout, result.returncode)


def forked(name: str, seconds: float | None, inputs: int | None, seed: int) -> dict[str, Any]:
    """A target in a copy of this process, which has loaded everything."""
    import fuzz.seeds
    import fuzz.targets  # noqa: F401  # loaded once for all

    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.close(reading)
        os.dup2(writing, 1)
        fuzz_target(name, seconds, inputs, False, seed)
        sys.stdout.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    return said_by(name, text, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def said_by(name: str, text: str, status: int) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(text.splitlines()[-1]) if text.startswith("{") else {"found": []}
    if status or "inputs" not in said:
        said["found"].append(f"{name}: the process ended with {status}")
    return said


def played(name: str, path: Path) -> int:
    """One input; what it raises is shown."""
    from fuzz.targets import TARGETS

    start = time.process_time()
    TARGETS[name](path.read_bytes())
    print(f"{name} {path}: {time.process_time() - start:.3f} s")
    return 0


class Watched:
    """A target, and what was found with it: each kind of finding once, under its place in the source."""

    def __init__(self, name: str, target: Callable[[bytes], None]) -> None:
        self.name, self.target = name, target
        self.inputs, self.slowest = 0, 0.0
        self.found: dict[str, str] = {}

    def __call__(self, data: bytes) -> None:
        self.inputs += 1
        start = time.process_time()
        try:
            self.target(data)
        except Exception as error:  # noqa: BLE001  # which ones there are is the question
            self._note(error, data)
        self.slowest = max(self.slowest, time.process_time() - start)

    def _note(self, error: Exception, data: bytes) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [it for it in frames if "/quantrecipe/" in it.filename] or frames
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        kind = f"{type(error).__name__} at {place}"
        if type(error).__name__ != "TooSlowError" and kind in self.found:
            return
        if type(error).__name__ == "TooSlowError":
            kind = f"{kind} {len(self.found)}"  # where the time went isn't known
            if len(self.found) > 20 or not _slow_alone(self.name, data):
                return
        FINDINGS.mkdir(exist_ok=True)
        path = FINDINGS / f"{self.name}-{hashlib.sha256(data).hexdigest()[:12]}"
        path.write_bytes(data)
        self.found[kind] = f"{self.name}: {kind}: {str(error)[:200]!r} {path}"


def _slow_alone(name: str, data: bytes) -> bool:
    """Whether an input is too slow in a process that counts nothing."""
    path = FINDINGS / f"slow-{os.getpid()}"
    FINDINGS.mkdir(exist_ok=True)
    path.write_bytes(data)
    command = [sys.executable, __file__, name, f"--play={path}"]
    slow = subprocess.run(command, capture_output=True, check=False).returncode != 0
    path.unlink()
    return slow


def fuzz_target(name: str, seconds: float | None, inputs: int | None, coverage: bool, seed: int) -> int:
    """One target, in this process, until the time is over or the inputs are made."""
    if coverage:
        import atheris

        with atheris.instrument_imports(include=["quantrecipe"]):
            from fuzz.targets import TARGETS
    else:
        from fuzz.targets import TARGETS
    from fuzz.seeds import seeds

    begin = seeds(name)
    watched = Watched(name, TARGETS[name])
    for data in begin:  # they load what is loaded once, and each has to pass as well
        watched(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    limit_memory()

    def report() -> None:
        used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
        said = {
            "inputs": watched.inputs,
            "slowest": watched.slowest,
            "memory": used,
            "found": [*watched.found.values()],
        }
        print(json.dumps(said), flush=True)

    if coverage:
        return with_coverage(watched, begin, seconds, inputs, seed, report)
    mutated(watched, begin, seconds, inputs, seed)
    report()
    return 0


def limit_memory() -> None:
    """What asks for more gets a MemoryError, which is a finding."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def mutated(
    watched: Watched, begin: list[bytes], seconds: float | None, inputs: int | None, seed: int
) -> None:
    """Mutations of the corpus, and of what was made of it, at random."""
    from fuzz.mutate import mutate, read_words

    draw = random.Random(f"{seed} {watched.name}")
    words = read_words(WORDS.read_text(encoding="utf-8"))
    end = None if seconds is None else time.monotonic() + seconds
    while (inputs is None or watched.inputs < inputs) and (end is None or time.monotonic() < end):
        data = draw.choice(begin)
        for _ in range(draw.choice((1, 1, 2, 5))):
            data = mutate(data, draw, begin, words)
            watched(data)


def with_coverage(
    watched: Watched,
    begin: list[bytes],
    seconds: float | None,
    inputs: int | None,
    seed: int,
    report: Callable[[], None],
) -> int:
    """Inputs that libFuzzer makes, those kept that reach code that none before has reached."""
    import atheris
    from fuzz.mutate import mutate, read_words

    words = read_words(WORDS.read_text(encoding="utf-8"))
    grown = FINDINGS / "corpus" / watched.name
    grown.mkdir(parents=True, exist_ok=True)
    for data in begin:
        (grown / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def custom(data: bytes, most: int, number: int) -> bytes:
        draw = random.Random(number)
        if draw.random() < 0.4:
            return bytes(atheris.Mutate(data, most))
        return mutate(data, draw, begin, words)[:most]

    sink = os.open(FINDINGS / f"{watched.name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(sink, 2)
    settings = [
        watched.name,
        f"-max_total_time={int(seconds) + 1}" if seconds is not None else "-max_total_time=0",
        f"-runs={inputs}" if inputs is not None else "-runs=-1",
        "-max_len=65536",
        "-timeout=60",
        "-rss_limit_mb=4096",
        f"-seed={seed + 1}",
        f"-dict={WORDS}",
        f"-artifact_prefix={FINDINGS}/{watched.name}-",
        str(grown),
    ]
    import atexit

    atexit.register(report)
    atheris.Setup(settings, watched, custom_mutator=custom)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
