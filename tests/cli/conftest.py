"""Models are run by stand-ins in the tests of commands."""

from __future__ import annotations

import pytest
from support.stock_once import read_stock_once


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp needn't be installed: whatever asks for it before long work is told that it is there."""
    monkeypatch.setattr("quantrecipe.engine.require_engine", lambda engine=None: engine)


@pytest.fixture(autouse=True)
def stock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all presets takes as long as the rest of most commands that fit."""
    read_stock_once(monkeypatch)
