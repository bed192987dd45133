"""Commands are tested as they are where nobody has set a width."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test runners set COLUMNS for their workers."""
    monkeypatch.delenv("COLUMNS", raising=False)
