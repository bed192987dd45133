"""compile_kernels, compile_jobs: get every kernel that is needed compiled, before the clock and the progress bar start.

What is in the user's cache is loaded, and nothing is said. The rest is counted before it is compiled, so that whoever
waits knows for what, and for how much of it. It is compiled side by side, in processes of this module (numba compiles
one thing at a time in each), which leave it in the cache:

    stdin     JSON, a line for each job: {"format": "Q4_K", "weighted": true, "decode": false, "encoder": ""}
    stdout    a line when a job is done
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe import __version__
from quantrecipe.api import Encoder, InputStatistics, QuantFormat
from quantrecipe.core.cache import kernel_folder
from quantrecipe.core.finite import all_sound
from quantrecipe.core.jit import Kernel, NotCached, only_cached
from quantrecipe.core.kernel_format import KernelFormat
from quantrecipe.core.processors import usable_processors
from quantrecipe.plan.plan import Assignment
from quantrecipe.registry import Registry, load_registry

if TYPE_CHECKING:
    import subprocess

__all__ = ["KernelJob", "compile_jobs", "compile_kernels", "warm"]


_WITH_ENCODER = 100
"""More than the kernels that any format's encoder reaches."""
_MOST = 8
"""Processes that compile: each takes a quarter of a gigabyte, and few kernels are missing at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelJob:
    """A format's encoder, with importance or without, or its decoder; or another encoder for it."""

    format: QuantFormat
    weighted: bool = False
    decode: bool = False
    encoder: Encoder | None = None

    def __str__(self) -> str:
        """What people are told of it: "Q4_K encode, importance"."""
        name = self.format.spec.name
        if self.encoder is not None:
            return f"{name} encode, {self.encoder.name}"
        return f"{name} decode" if self.decode else f"{name} encode{', importance' if self.weighted else ''}"

    @property
    def effort(self) -> int:
        """About in proportion to the time that compiling takes; 0 for a format of which nothing is known."""
        if not isinstance(self.format, KernelFormat):
            return 0
        kernels = self.format.kernels
        if (
            self.encoder is not None and kernels.grid is not None
        ):  # with the format's own encoder, the most that there is
            return _WITH_ENCODER
        kernel = (
            kernels.decode if self.decode else (self.weighted and kernels.encode_weighted) or kernels.encode
        )
        return kernel.reached if isinstance(kernel, Kernel) else 0

    def run(self) -> None:
        """Run the kernel once, on one group of rows of one block."""
        warm(self.format, weighted=self.weighted, decode=self.decode, encoder=self.encoder)


def compile_kernels(
    assignments: Sequence[Assignment],
    registry: Registry,
    tell: Callable[[int, int, str], None],
    meanwhile: AbstractContextManager[object] | None = None,
) -> float:
    """Each encoder and decoder that is needed; the seconds that compiling took, 0 where all was in the cache.

    tell:      called before each that is compiled, with its number, how many there are, and what it is
    meanwhile: entered for as long as something is compiled
    """
    sources = [registry.formats[dtype] for dtype in sorted({a.tensor.dtype for a in assignments})]
    wanted = {(a.type, a.importance): a.format for a in assignments if a.format.spec.codec}
    jobs = [KernelJob(format=source, decode=True) for source in sources if source.spec.codec]
    jobs += [
        KernelJob(format=fmt, weighted=weighted)
        for (_, weighted), fmt in sorted(wanted.items(), key=lambda item: item[0])
    ]
    by_encoder = {(a.type, a.encoder.name): a for a in assignments if a.encoder is not None}
    jobs += [
        KernelJob(format=by_encoder[key].format, encoder=by_encoder[key].encoder)
        for key in sorted(by_encoder)
    ]
    return compile_jobs(jobs, tell, meanwhile)


def compile_jobs(
    jobs: Iterable[KernelJob],
    tell: Callable[[int, int, str], None],
    meanwhile: AbstractContextManager[object] | None = None,
) -> float:
    """Compile what these jobs need and the cache doesn't have; the seconds that it took."""
    missing = [job for job in jobs if not _is_cached(job)]
    if not missing:
        return 0.0
    started = time.perf_counter()
    with meanwhile or nullcontext():
        _compile(missing, tell)
    return time.perf_counter() - started


def _compile(missing: list[KernelJob], tell: Callable[[int, int, str], None]) -> None:
    # What takes longest begins first, so that nobody waits for it at the end.
    missing.sort(key=lambda job: -job.effort)
    side_by_side = (
        min(usable_processors(), len(missing), _MOST) if kernel_folder(__version__) is not None else 1
    )
    begun = _compile_in_processes(missing, side_by_side) if side_by_side > 1 else iter(missing)
    for number, job in enumerate(begun, 1):
        tell(number, len(missing), str(job))
        if side_by_side == 1:
            job.run()
    if side_by_side > 1:
        for job in missing:  # loaded; or compiled, where a process couldn't
            job.run()


def warm(
    fmt: QuantFormat, *, weighted: bool = False, decode: bool = False, encoder: Encoder | None = None
) -> None:
    """Compile a format's encoder, its decoder, or another encoder for it, and what looks for NaN among its bytes."""
    spec = fmt.spec
    if decode:
        data = np.zeros((spec.rows_per_group, spec.row_bytes(spec.block)), np.uint8)
        fmt.decode(data, spec.block)
    else:
        rows = np.linspace(-1, 1, spec.rows_per_group * spec.block, dtype=np.float32).reshape(
            spec.rows_per_group, -1
        )
        if encoder is not None:
            statistics = InputStatistics(gram=np.eye(spec.block, dtype=np.float32), tokens=spec.block)
            prepared = encoder.prepare(statistics if encoder.needs_statistics else None, fmt=fmt)
            encoder.encode(rows, fmt, np.ones(spec.block, np.float32), prepared)
        data = fmt.encode(
            rows, np.ones(spec.block, np.float32) if weighted or spec.importance == "required" else None
        )
    all_sound(spec, data)


def _is_cached(job: KernelJob) -> bool:
    """Whether nothing has to be compiled for it; what is there is loaded."""
    try:
        with only_cached():
            job.run()
    except NotCached:
        return False
    return True


def _compile_in_processes(jobs: Sequence[KernelJob], count: int) -> Iterator[KernelJob]:
    """Each job when a process begins with it; ends when all are done, or no process is left to do them."""
    todo: SimpleQueue[KernelJob] = SimpleQueue()
    begun: SimpleQueue[KernelJob | None] = SimpleQueue()  # None: a process has ended
    for job in jobs:
        todo.put(job)

    def serve(process: subprocess.Popen[str]) -> None:
        try:
            with suppress(
                OSError, ValueError, Empty
            ):  # the pipe of a process that died, or that speaks nonsense
                while True:
                    job = todo.get_nowait()
                    begun.put(job)
                    if not _compile_in(process, job):
                        break
        finally:
            begun.put(None)

    with _processes(count) as processes:
        threads = [threading.Thread(target=serve, args=(process,), daemon=True) for process in processes]
        for thread in threads:
            thread.start()
        working = len(threads)
        while working:
            beginning = begun.get()
            if beginning is None:
                working -= 1
            else:
                yield beginning


def _compile_in(process: subprocess.Popen[str], job: KernelJob) -> bool:
    """Have the process do the job; False if it died of it."""
    if process.stdin is None or process.stdout is None:
        return False
    line: dict[str, object] = {"format": job.format.spec.name, "weighted": job.weighted, "decode": job.decode}
    line["encoder"] = job.encoder.name if job.encoder is not None else ""
    process.stdin.write(json.dumps(line) + "\n")
    process.stdin.flush()
    return bool(process.stdout.readline())


@contextmanager
def _processes(count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes of this module, which find the same packages as this one does. None where none can be started."""
    import subprocess  # most runs have nothing to compile

    if not sys.executable or getattr(sys, "frozen", False):  # no Python there, but perhaps an application
        yield []
        return
    command = [sys.executable, "-P", "-m", __name__]
    # Python itself passes over what isn't text in its path.
    paths = [path for path in sys.path if isinstance(path, str) and path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    found: list[subprocess.Popen[str]] = []
    try:
        with suppress(OSError):  # whoever asks compiles by itself then
            for _ in range(count):
                found.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                        text=True,
                        env=environment,
                    )
                )
        yield found
    finally:
        for process in found:
            process.kill()
            process.communicate()


def _serve() -> None:
    """Do the jobs of standard input. One that fails is left to whoever asked, who is told why when it fails there."""
    answers, sys.stdout = sys.stdout, sys.stderr  # a plugin's words are no answers
    registry = load_registry()
    for line in sys.stdin:
        job = json.loads(line)
        with suppress(Exception):
            warm(
                registry.formats[job["format"]],
                weighted=job["weighted"],
                decode=job["decode"],
                encoder=registry.encoder(job["encoder"]) if job["encoder"] else None,
            )
        answers.write("done\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
