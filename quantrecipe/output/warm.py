"""compile_kernels, compile_jobs: get every kernel that is needed compiled, before the clock and the progress bar start.

What is in the user's cache is loaded, and nothing is said. The rest is counted before it is compiled, so that whoever
waits knows for what, and for how much of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from quantrecipe.api import QuantFormat
from quantrecipe.core.finite import all_sound
from quantrecipe.core.jit import NotCached, only_cached
from quantrecipe.plan.plan import Assignment
from quantrecipe.registry import Registry

__all__ = ["KernelJob", "compile_jobs", "compile_kernels", "warm"]


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelJob:
    """A format's encoder, with importance or without, or its decoder."""

    format: QuantFormat
    weighted: bool = False
    decode: bool = False

    def __str__(self) -> str:
        """What people are told of it: "Q4_K encode, importance"."""
        name = self.format.spec.name
        return f"{name} decode" if self.decode else f"{name} encode{', importance' if self.weighted else ''}"

    def run(self) -> None:
        """Run the kernel once, on one group of rows of one block."""
        warm(self.format, weighted=self.weighted, decode=self.decode)


def compile_kernels(
    assignments: Sequence[Assignment], registry: Registry, tell: Callable[[int, int, str], None]
) -> float:
    """Each encoder and decoder that is needed; the seconds that compiling took, 0 where all was in the cache.

    tell: called before each that is compiled, with its number, how many there are, and what it is
    """
    sources = [registry.formats[dtype] for dtype in sorted({a.tensor.dtype for a in assignments})]
    wanted = {(a.type, a.importance): a.format for a in assignments if a.format.spec.codec}
    jobs = [KernelJob(format=source, decode=True) for source in sources if source.spec.codec]
    jobs += [
        KernelJob(format=fmt, weighted=weighted)
        for (_, weighted), fmt in sorted(wanted.items(), key=lambda item: item[0])
    ]
    return compile_jobs(jobs, tell)


def compile_jobs(jobs: Iterable[KernelJob], tell: Callable[[int, int, str], None]) -> float:
    """Compile what these jobs need and the cache doesn't have; the seconds that it took."""
    missing = [job for job in jobs if not _is_cached(job)]
    started = time.perf_counter()
    for number, job in enumerate(missing, 1):
        tell(number, len(missing), str(job))
        job.run()
    return time.perf_counter() - started if missing else 0.0


def warm(fmt: QuantFormat, *, weighted: bool = False, decode: bool = False) -> None:
    """Compile a format's encoder, or its decoder, and what looks for NaN among its bytes."""
    spec = fmt.spec
    if decode:
        data = np.zeros((spec.rows_per_group, spec.row_bytes(spec.block)), np.uint8)
        fmt.decode(data, spec.block)
    else:
        rows = np.linspace(-1, 1, spec.rows_per_group * spec.block, dtype=np.float32).reshape(
            spec.rows_per_group, -1
        )
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
