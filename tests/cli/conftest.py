"""Commands are tested as they are where nobody has set a width."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test runners set COLUMNS for their workers."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are run by stand-ins here, so that llama.cpp needn't be installed; what asks for it is told that it is."""
    monkeypatch.setattr("quantrecipe.evaluate.require_engine", lambda: None)
