"""What tests of probes share: an engine that is none."""

from __future__ import annotations

import pytest
from support.resident_engine import StandIn


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in, in the engine's place, on a machine with a GiB of free memory."""
    standing = StandIn()
    standing.install(monkeypatch)
    return standing
