"""Studios for tests. Models are opened once for all tests that only read."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from support.studio import SMALL, Page, page_of

from quantrecipe.registry import load_registry
from quantrecipe.studio.moves import learn_room
from quantrecipe.studio.opened import Knowledge, Opened, open_for_studio
from quantrecipe.studio.session import Session


@pytest.fixture
def page() -> Page:
    """A studio with nothing open."""
    return page_of(Session(knows=Knowledge(registry=load_registry(plugins=False))))


@pytest.fixture(scope="session")
def shared() -> tuple[Page, dict[str, Any]]:
    """A studio in which a small model is open, for tests that open and close nothing; and what it says of the model."""
    its = page_of(Session(knows=Knowledge(registry=load_registry(plugins=False))))
    return its, its.open(SMALL)


@pytest.fixture(scope="session")
def opened_for_tests() -> Callable[[str], Opened]:
    """A model as the studio opens it, once."""

    @cache
    def find(name: str) -> Opened:
        opened = open_for_studio(name, Knowledge(registry=load_registry(plugins=False)))
        learn_room(opened)
        return opened

    return find
