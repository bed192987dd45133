"""What every target demands of an answer: a value or an error of ours, in time, that can be shown.

    with answered():
        read_header(path)

An exception that isn't a QuantrecipeError leaves the block, and is a finding. So is a broken promise of an answer.
"""

from __future__ import annotations

import atexit
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from quantrecipe.cli.errors import printable
from quantrecipe.errors import QuantrecipeError
from quantrecipe.output.work_folder import work_folder
from quantrecipe.registry import Registry, load_registry

__all__ = [
    "FOLDER",
    "MEMORY",
    "SECONDS",
    "Target",
    "TooSlowError",
    "answered",
    "folder",
    "registry",
    "text_of",
    "written",
]

Target = Callable[[bytes], None]

FOLDER = "QUANTRECIPE_FUZZ_FOLDER"
"""Names the folder for a target's files: who runs it in a process of its own removes it, however that ends."""
MEMORY = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())
"""Where folders for files that last as long as a test are: in memory where the system has such a place."""

SECONDS = 1.0
"""Of the processor, for one input."""


class TooSlowError(Exception):
    """An answer that took longer than anybody would wait."""


@contextmanager
def answered() -> Iterator[None]:
    """Processor time, so that a busy machine finds nothing; the problems of an error as the terminal shows them."""
    start = time.process_time()
    try:
        yield
    except QuantrecipeError as error:
        assert error.problems, "an error without a problem"
        for problem in error.problems:
            assert problem.what, "a problem that says nothing"
            printable(str(problem)).encode()
    if (taken := time.process_time() - start) > SECONDS:
        raise TooSlowError(f"{taken:.1f} s of the processor")


@cache
def registry() -> Registry:
    return load_registry(plugins=False)


@cache
def folder() -> Path:
    """A folder of this process, which goes when that ends."""
    if given := os.environ.get(FOLDER):
        return Path(given)
    holder = ExitStack()
    atexit.register(holder.close)
    return holder.enter_context(work_folder(MEMORY, "fuzz"))


def written(name: str, data: bytes) -> Path:
    """A file with these bytes, the same one each time."""
    path = folder() / name
    with path.open("wb", buffering=0) as file:
        file.write(data)
    return path


def text_of(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")
