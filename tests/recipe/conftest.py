"""The registry that these tests use: quantrecipe's own formats and recipes, no installed plugin."""

from __future__ import annotations

import pytest

from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="session")
def registry() -> Registry:
    """What quantrecipe itself ships."""
    return load_registry(plugins=False)
