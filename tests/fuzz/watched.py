"""Watched: a target with a count of its inputs, and what was found with it, in a file that outlives the process."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from fuzz.answers import Target, TooSlowError

__all__ = ["FINDINGS", "Watched", "limit_memory", "read_state"]

FINDINGS = Path(__file__).parent / "findings"
_RUN = Path(__file__).parent / "run.py"
_MEMORY = 1 << 30
"""Bytes that inputs may take, over what the program has once everything is loaded."""
_DONE = re.compile(r"^Done (\d+) runs", re.MULTILINE)
_MOST_SLOW = 20  # inputs of a target that are kept for being slow
_EVERY = 1.0  # seconds between states


class Watched:
    """Each kind of finding counts once: a type of error at a place in the source."""

    def __init__(self, name: str, target: Target) -> None:
        self.name, self.target = name, target
        self.inputs, self.slowest, self.slow = 0, 0.0, 0
        self.found: dict[str, str] = {}
        self._before = _most_memory()
        self._told = 0.0
        FINDINGS.mkdir(exist_ok=True)
        state_path(name).unlink(missing_ok=True)

    def __call__(self, data: bytes) -> None:
        self.inputs += 1
        start = time.process_time()
        try:
            self.target(data)
        except Exception as error:  # noqa: BLE001  # which ones there are is the question
            self._note(error, data)
        end = time.process_time()
        self.slowest = max(self.slowest, end - start)
        if end > self._told + _EVERY:
            self.tell()
            self._told = end

    def tell(self) -> None:
        """Write the state: `inputs`, `slowest` in seconds, `memory` in bytes, `found`."""
        state = {"inputs": self.inputs, "slowest": self.slowest, "memory": _most_memory() - self._before}
        path = state_path(self.name)
        path.with_suffix(".part").write_text(json.dumps(state | {"found": [*self.found.values()]}))
        path.with_suffix(".part").replace(path)

    def _note(self, error: Exception, data: bytes) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [it for it in frames if "/quantrecipe/" in it.filename] or frames
        kind = f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"
        path = FINDINGS / f"{self.name}-{hashlib.sha256(data).hexdigest()[:12]}"
        if isinstance(error, TooSlowError):
            if self.slow >= _MOST_SLOW:
                return
            self.slow += 1
            kind = f"{kind} {path.name}"  # where the time went isn't known
        if kind in self.found:
            return
        path.write_bytes(data)
        if isinstance(error, TooSlowError) and not self._slow_alone(path):
            path.unlink()
            return
        self.found[kind] = f"{self.name}: {kind}: {str(error)[:200]!r} {path}"
        self.tell()

    def _slow_alone(self, path: Path) -> bool:
        """Whether an input is too slow in a process of its own, in which nothing is counted."""
        command = [sys.executable, str(_RUN), self.name, f"--play={path}"]
        return subprocess.run(command, capture_output=True, check=False).returncode != 0


def state_path(name: str) -> Path:
    return FINDINGS / f"{name}.json"


def read_state(name: str, status: int) -> dict[str, Any]:
    """What a process that has ended says of its target; how it ended is a finding if that wasn't well."""
    state: dict[str, Any] = {"inputs": 0, "slowest": 0.0, "memory": 0, "found": []}
    if state_path(name).exists():
        state |= json.loads(state_path(name).read_text())
    log = FINDINGS / f"{name}.log"
    if log.exists() and (
        done := _DONE.search(log.read_text(errors="replace"))
    ):  # libFuzzer ends without notice
        state["inputs"] = max(state["inputs"], int(done[1]))
    if status or not state["inputs"]:
        state["found"].append(f"{name}: the process ended with {status}; see {FINDINGS}/{name}.log")
    return state


def limit_memory() -> None:
    """What asks for more gets a MemoryError, which is a finding."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        limit = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
