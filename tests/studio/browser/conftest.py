"""A studio that listens, and pages of it in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.studio_page import Started


@pytest.fixture(scope="package")
def address() -> Iterator[str]:
    """Where the studio is, which all tests here share."""
    with Started() as (_, found):
        yield found


@pytest.fixture
def new_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Makes pages in windows of their own. None of them may fail, or do what its policy forbids."""
    contexts: list[Any] = []
    wrong: list[str] = []

    def make(width: int = 1280, height: int = 900, **how: Any) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": height}, **how)
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda it: wrong.append(it.text) if "Content Security Policy" in it.text else None)
        return page

    yield make
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def page(new_page: Callable[..., Any], address: str) -> Any:
    """The studio, with no model open."""
    page = new_page()
    page.goto(address)
    return page
