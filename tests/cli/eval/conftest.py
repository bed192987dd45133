"""Tests of `eval` run no model."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.evaluated import invented_worker


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, object]]:
    """What sessions were asked for."""
    return invented_worker(monkeypatch, tmp_path)
