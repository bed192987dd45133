"""Where inputs come from: atheris, which sees what code they reach, or mutations at random.

Both run one target in a process of its own, until the time is over or the inputs are made.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from fuzz.mutate import mutate, read_words
from fuzz.watched import FINDINGS, Watched, limit_memory

__all__ = ["instrumented", "mutated", "with_coverage"]

_RUN = Path(__file__).parent / "run.py"
_WORDS = Path(__file__).parent / "words.txt"
_OURS = 0.6
"""The share of atheris's inputs that our mutations make, which know JSON."""


def mutated(name: str, seconds: float | None, inputs: int | None, seed: int) -> int:
    """Mutations of the corpus in a copy of this process, which has loaded everything: its status."""
    from fuzz.seeds import seeds
    from fuzz.targets import TARGETS

    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        _quiet(name)
        begin = seeds(name)
        watched = Watched(name, TARGETS[name])
        for data in begin:  # each has to pass as well
            watched(data)
        limit_memory()
        draw = random.Random(f"{seed} {name}")
        words = read_words(_WORDS.read_text(encoding="utf-8"))
        end = None if seconds is None else time.monotonic() + seconds
        while (inputs is None or watched.inputs < inputs) and (end is None or time.monotonic() < end):
            data = draw.choice(begin)
            for _ in range(draw.choice((1, 1, 2, 5))):
                data = mutate(data, draw, begin, words)
                watched(data)
        watched.tell()
        os._exit(0)
    finally:
        os._exit(1)


def with_coverage(name: str, seconds: float | None, inputs: int | None, seed: int) -> int:
    """The same in a new process, whose modules are loaded with counters in them."""
    command = [sys.executable, str(_RUN), name, "--inside", f"--seed={seed}"]
    command += [f"--seconds={seconds}"] if seconds is not None else []
    command += [f"--inputs={inputs}"] if inputs is not None else []
    return subprocess.run(command, check=False).returncode


def instrumented(name: str, seconds: float | None, inputs: int | None, seed: int) -> None:
    """What that process does: libFuzzer's inputs; it keeps those that reach code which none before has reached."""
    import atheris

    _quiet(name)
    with atheris.instrument_imports(include=["quantrecipe"]):
        from fuzz.targets import TARGETS
    from fuzz.seeds import seeds

    begin = seeds(name)
    watched = Watched(name, TARGETS[name])
    for data in begin:
        watched(data)
    limit_memory()
    words = read_words(_WORDS.read_text(encoding="utf-8"))
    grown = FINDINGS / "corpus" / name
    grown.mkdir(parents=True, exist_ok=True)
    for data in begin:
        (grown / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def custom(data: bytes, most: int, number: int) -> bytes:
        draw = random.Random(number)
        if draw.random() > _OURS:
            return bytes(atheris.Mutate(data, most))
        return mutate(data, draw, begin, words)[:most]

    atheris.Setup(
        [
            name,
            f"-max_total_time={0 if seconds is None else max(1, int(seconds))}",
            f"-runs={-1 if inputs is None else inputs}",
            "-max_len=65536",
            "-timeout=60",
            "-rss_limit_mb=4096",
            f"-seed={seed + 1}",
            f"-dict={_WORDS}",
            f"-artifact_prefix={FINDINGS}/{name}-",
            str(grown),
        ],
        watched,
        custom_mutator=custom,
    )
    atheris.Fuzz()


def _quiet(name: str) -> None:
    """What libraries and libFuzzer say goes into a file."""
    FINDINGS.mkdir(exist_ok=True)
    log = os.open(FINDINGS / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
