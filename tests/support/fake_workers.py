"""Workers of an executor whose llama.cpp is played by a graph that a test makes, in their own processes, too.

A process of an executor has the folders of `sys.path`, and Python runs a `sitecustomize` that it finds there. What a
worker does besides is in its environment:

    FAKE_DIES     a file: the first process that begins with a group of chunks while it isn't there makes it, and is
                  killed; of a pass for Gram matrices, when it has written them all
    FAKE_LOSES    the same, but it is the process of llama.cpp that ends
    FAKE_PRODUCTS the graph is that of `graph_of_products`
    FAKE_VERSION  the version of quantrecipe that workers have
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quantrecipe.calibration import by_executor
from quantrecipe.calibration.collect import sums_of
from quantrecipe.calibration.gram.by_executor import collect_share
from quantrecipe.errors import EvaluationError
from support.fake_graph import FakeSession
from support.graph_of_products import ModelOfProducts, SessionOfProducts

__all__ = ["FakeWorkerSession", "ProductsWorkerSession", "install", "play"]


class _MayEnd:
    """What a session of a worker does besides. opened: how often one was, in this process."""

    opened = 0

    def __init__(self, path: Path, **more: Any) -> None:
        super().__init__(path, **more)  # type: ignore[call-arg]  # of a session
        type(self).opened += 1
        self.died = False

    def call(
        self, function: Callable[..., Any], *arguments: Any, hear: Callable[[Any], None] | None = None
    ) -> Any:
        assert not self.died
        if function is sums_of and _first("FAKE_DIES"):
            os.kill(os.getpid(), signal.SIGKILL)
        if function in (sums_of, collect_share) and _first("FAKE_LOSES"):
            self.died = True
            raise EvaluationError("llama.cpp was killed while it ran it")
        found = super().call(function, *arguments, hear=hear)  # type: ignore[misc]  # of a session
        if function is collect_share and _first("FAKE_DIES"):
            os.kill(os.getpid(), signal.SIGKILL)
        return found


class FakeWorkerSession(_MayEnd, FakeSession):
    """A FakeSession that may end."""


class _OfProducts(SessionOfProducts):
    def __init__(self, path: Path, **more: Any) -> None:
        super().__init__(ModelOfProducts(path=path))


class ProductsWorkerSession(_MayEnd, _OfProducts):
    """The same of a ModelOfProducts."""


def play() -> None:
    """Have workers of this process play. What `sitecustomize` does in processes of an executor."""
    import quantrecipe

    session = ProductsWorkerSession if "FAKE_PRODUCTS" in os.environ else FakeWorkerSession
    by_executor.Session = session  # type: ignore[misc,assignment]  # it runs as one does
    quantrecipe.__version__ = os.environ.get("FAKE_VERSION", quantrecipe.__version__)


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, *, products: bool = False) -> None:
    """Have all workers that are started from here play.

    folder: for what Python runs at first; products: the graph is that of `graph_of_products`
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("from support.fake_workers import play\n\nplay()\n", "utf-8")
    monkeypatch.syspath_prepend(str(folder))
    if products:
        monkeypatch.setenv("FAKE_PRODUCTS", "1")
    monkeypatch.setattr(by_executor, "Session", ProductsWorkerSession if products else FakeWorkerSession)
    monkeypatch.setattr(by_executor, "find_engine", lambda named: named)
    monkeypatch.setattr(by_executor, "engine_facts", lambda engine: SimpleNamespace(version="none"))


def _first(variable: str) -> bool:
    """True for the first process that asks."""
    mark = os.environ.get(variable)
    if not mark:
        return False
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
