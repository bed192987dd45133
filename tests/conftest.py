"""What all tests start from: the same examples of hypothesis each time, and nothing of the terminal that runs them, nor
of what was measured on its machine.

Their matrices are small, and several processes run them. There the threads of NumPy's linear algebra take up to a
hundred times as much of the processors as one thread, since they wait for each other by spinning: each process has one.

What they write needn't outlast the machine, and waiting for its disk took more of the time than most tests.

Without more said, tests try a quarter of their examples, so that the suite stays short. `--hypothesis-profile=full`, as
in .ci/run, tries all of them, and `explore` looks for new ones, ten times as many.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support.chromium import launched

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before anything imports NumPy, which reads it then

settings.register_profile("explore", max_examples=1000, deadline=None)
settings.register_profile("full", max_examples=100, derandomize=True, deadline=None)
settings.register_profile("same", max_examples=25, derandomize=True, deadline=None)
settings.load_profile("same")

# All that rich and click ask the environment for; runners of tests set some of it for their workers.
_OF_A_TERMINAL = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


def pytest_collection_finish() -> None:
    """All tests and what they have imported stay to the end: looking through them for garbage, again and again, took a
    quarter of the time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """`os.fsync` returns at once, but still refuses what isn't an open file. A test of when it is called puts its own
    function in this place.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are tested where nobody has set a width, colours or a store; a test that wants one sets it."""
    for name in (*_OF_A_TERMINAL, "QUANTRECIPE_STORE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def no_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of how fast this machine is; a test that wants to know it names a folder."""
    monkeypatch.setattr("quantrecipe.speed.folder.speed_folder", lambda: Path("there is no such folder"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser, which all tests of pages share: playwright can't be there twice in one process."""
    with launched() as browser:
        yield browser
