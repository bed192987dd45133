"""usable_processors: how many threads of work this process can run at the same time."""

from __future__ import annotations

import os

__all__ = ["usable_processors"]


def usable_processors() -> int:
    """The processors that this process may use: in containers and under taskset fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # Linux; Python 3.13 has os.process_cpu_count, which does the same
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
