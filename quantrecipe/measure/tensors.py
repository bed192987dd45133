"""measure_tensors: what each tensor loses in each type, tensors side by side in threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext

from quantrecipe.api import QuantFormat
from quantrecipe.core.processors import usable_processors
from quantrecipe.measure.buffers import Buffers
from quantrecipe.measure.journal import Journal
from quantrecipe.measure.known_results import Known
from quantrecipe.measure.losses import Job, measure_tensor
from quantrecipe.measure.measurement import Measurement, Scope, Subject
from quantrecipe.measure.progress import COMPILING, Progress
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.warm import KernelJob, compile_jobs
from quantrecipe.sensitivity.sensitivity import TensorSensitivity
from quantrecipe.tensor import TensorInfo

__all__ = ["measure_tensors"]

_LARGE, _AT_A_TIME = 8192, 2
"""Columns of tensors of which no more than so many are measured at a time, where an encoder makes their bytes."""


def measure_tensors(
    subject: Subject,
    scope: Scope,
    what: Measurement,
    known: Known,
    journal: Journal,
    progress: Progress,
) -> dict[str, TensorSensitivity]:
    """By name, in the scope's order. Every tensor in one thread; results are journalled as they come."""
    jobs = [_job(tensor, scope.formats[tensor.name], subject, what) for tensor in scope.tensors]
    _compile(jobs, progress)
    effort, done = max(1, sum(job.effort for job in jobs)), 0
    guard, stopped = threading.Lock(), threading.Event()
    local, factors = threading.local(), threading.Semaphore(_AT_A_TIME)

    def advance(amount: int) -> None:
        nonlocal done
        if stopped.is_set():
            raise _Stopped
        with guard:
            done += amount

    def work(job: Job) -> TensorSensitivity:
        if not hasattr(local, "buffers"):
            local.buffers = Buffers()
        # While a factor is made, it takes 24 bytes for each square of columns.
        large = job.encoding is not None and job.tensor.cols > _LARGE
        with factors if large else nullcontext():
            found = measure_tensor(job, reader, local.buffers, known, advance)
        with guard:
            journal.add_tensor(found)  # here, so that nothing is lost when another thread fails
        return found

    found: dict[str, TensorSensitivity] = {}
    with TensorReader() as reader, _pool(what.threads or usable_processors(), stopped) as pool:
        running = {pool.submit(work, job): job for job in jobs}
        while running:
            # Not only when a tensor is done: the first may take minutes, and the bar should move.
            ready, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in ready:
                name = running.pop(future).tensor.name
                found[name] = future.result()
                progress.say(name)
            progress.total(min(1.0, done / effort))
    return {job.tensor.name: found[job.tensor.name] for job in jobs}


def _job(tensor: TensorInfo, formats: tuple[QuantFormat, ...], subject: Subject, what: Measurement) -> Job:
    return Job(
        tensor=tensor,
        stored=subject.model.sources[tensor.name],
        source=subject.registry.format(tensor.dtype),
        formats=formats,
        analysis=what.analysis.for_tensor(tensor),
        importance=subject.importance,
        sample=what.sample,
        encoding=what.encoding,
    )


class _Stopped(Exception):  # noqa: N818  # no error, but an order
    """Another thread has failed, or the user wants no more."""


@contextmanager
def _pool(threads: int, stopped: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """Threads that give up soon when the block is left early."""
    pool = ThreadPoolExecutor(threads, "measure")
    try:
        yield pool
    except BaseException:
        stopped.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _compile(jobs: Sequence[Job], progress: Progress) -> None:
    """Compile every kernel once, in one thread, before several threads need it at the same time."""
    weighted = any(job.importance is not None for job in jobs)
    formats: dict[str, QuantFormat] = {fmt.spec.name: fmt for job in jobs for fmt in job.formats}
    sources = {job.source.spec.name: job.source for job in jobs if job.source.spec.codec}
    kernels = [
        KernelJob(format=fmt, weighted=weighted and fmt.spec.importance != "ignored")
        for fmt in formats.values()
    ]
    kernels += [KernelJob(format=fmt, decode=True) for fmt in {**formats, **sources}.values()]

    def tell(number: int, total: int, what: str) -> None:
        if number == 1:
            progress.stage(COMPILING)
        progress.say(f"{number} of {total} ({what})")
        progress.total((number - 1) / total)

    if compile_jobs(kernels, tell):
        progress.stage("losses")
