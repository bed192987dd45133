"""The worker from outside: start it, follow it, and say what it died of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from quantrecipe.errors import EvaluationError, Problem
from quantrecipe.evaluate.in_process import Progress
from quantrecipe.evaluate.libraries import Engine

__all__ = ["Log", "ask_worker", "death", "existing_gguf", "run_worker"]

Log = Callable[[str], None]
"""Told each line of llama.cpp's log, at the end, whatever the end."""

_ILLEGAL_INSTRUCTION = (-4, 0xC000001D)  # SIGILL; Windows' STATUS_ILLEGAL_INSTRUCTION
_PATIENCE = 60  # seconds: drivers of several GPUs take some to begin
_LOOKED_THROUGH = 4000  # bytes of stderr


def existing_gguf(path: str | Path) -> Path:
    """The path, checked. EvaluationError that says how to make a GGUF of what it is instead."""
    path = Path(path)
    if path.is_dir():
        raise EvaluationError(
            "is a folder, and llama.cpp runs GGUF files",
            f"make one: quantrecipe apply llama.cpp/BF16 {path} -o {path.name}.bf16.gguf",
            file=path,
        )
    if not path.exists():
        raise EvaluationError("there is no such file", file=path)
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise EvaluationError(
                "is no GGUF file, and llama.cpp runs no other",
                f"make one: quantrecipe apply llama.cpp/BF16 {path} -o {path.stem}.bf16.gguf",
                file=path,
            )
    return path


def run_worker(request: dict[str, Any], *, progress: Progress | None, log: Log | None) -> None:
    """Have a request served. EvaluationError for what the worker says, or for its death."""
    with tempfile.TemporaryFile() as errors, _start(request, errors) as process:
        try:
            done = _follow(process, progress)
            status = process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()
            told = _read(errors, from_end=_LOOKED_THROUGH if log is None else None)
            if log is not None:
                for line in told.splitlines():
                    log(line)
        if not done or status:
            raise death(status, told[-_LOOKED_THROUGH:], Engine.requested(request), request["model"])


def ask_worker(engine: Engine) -> dict[str, Any]:
    """What an engine says of itself: see `worker`. EvaluationError where it says nothing, or only what is wrong."""
    answers: list[dict[str, Any]] = []
    with tempfile.TemporaryFile() as errors, _start(engine.request, errors) as process:
        try:
            told, _ = process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            what = f"says nothing of itself for {_PATIENCE} seconds; the driver of a GPU may hang"
            raise EvaluationError(what, "try a build for the CPU", file=engine.library) from None
        answers = [json.loads(line) for line in told.splitlines()]
        if not answers or process.returncode:
            raise death(process.returncode, _read(errors, from_end=_LOOKED_THROUGH), engine, engine.library)
    answer = answers[0]
    if "problems" in answer:
        raise EvaluationError([Problem(**problem) for problem in answer["problems"]])
    facts: dict[str, Any] = answer["facts"]
    return facts


def _read(file: IO[bytes], *, from_end: int | None) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(0 if from_end is None else max(0, size - from_end))
    return file.read().decode("utf-8", "replace")


def _start(request: Mapping[str, Any], errors: IO[bytes]) -> subprocess.Popen[str]:
    """The worker at its work. The request is in a file: a pipe that the worker doesn't empty would block us."""
    package = str(Path(__file__).parents[2])  # this quantrecipe, however it was found
    path = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH", "")) if part)
    with tempfile.TemporaryFile() as asked:
        asked.write(json.dumps(request).encode() + b"\n")
        asked.seek(0)
        return subprocess.Popen(
            [sys.executable, "-m", "quantrecipe.evaluate.worker"],
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Threads that wait sleep: spinning, as OpenMP does by default, is a trap where others need the processors.
            env={"OMP_WAIT_POLICY": "passive"} | os.environ | {"PYTHONPATH": path},
            encoding="utf-8",
        )


def _follow(process: subprocess.Popen[str], progress: Progress | None) -> bool:
    """Hear the worker until its end. True if it said that it was done."""
    for line in process.stdout or ():
        answer = json.loads(line)
        if "progress" in answer and progress is not None:
            progress(*answer["progress"])
        elif "problems" in answer:
            raise EvaluationError([Problem(**problem) for problem in answer["problems"]])
        elif "done" in answer:
            return True
    return False


def death(status: int, told: str, engine: Engine, model: str | Path) -> EvaluationError:
    """Why a worker that ended with this status, and said this on stderr, wasn't able to go on with a model."""
    if status in _ILLEGAL_INSTRUCTION:
        what = "was built for another processor: this one doesn't know an instruction that it uses"
        return EvaluationError(what, engine.rebuild, file=engine.library)
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    asserted = [line for line in lines if "GGML_ASSERT" in line or "ggml_abort" in line]
    if status == -9:
        what = "llama.cpp was killed while it ran it, as systems do that run out of memory"
        return EvaluationError(what, "use a smaller --ctx, or a machine with more memory", file=model)
    if asserted:
        what = f"llama.cpp gave up on it: {asserted[-1]}"
        return EvaluationError(what, "a newer llama.cpp may run it", file=model)
    if "Traceback" in told:
        return EvaluationError(f"the process that runs llama.cpp failed:\n{told.strip()}", file=model)
    last = f" after it said: {lines[-1]}" if lines else ""
    name = signal.Signals(-status).name if 0 < -status < 65 else f"status {status}"
    return EvaluationError(f"llama.cpp crashed ({name}){last}", "-v shows its log", file=model)
