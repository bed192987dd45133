"""The example model, and what is built in, for all tests of fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stock_once import read_stock_once

from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.registry import Registry, load_registry

TINY = Path(__file__).parents[2] / "examples/tiny-code"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(autouse=True)
def stock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all presets takes as long as the rest of a small fit."""
    read_stock_once(monkeypatch)


@pytest.fixture(scope="module")
def tiny(registry: Registry) -> Model:
    return open_model(TINY, registry=registry)
