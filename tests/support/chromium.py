"""A real Chromium for tests of pages: Debian's, or the one that $QUANTRECIPE_CHROMIUM names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

__all__ = ["launched", "violations"]


@contextmanager
def launched() -> Iterator[Any]:
    """A browser, until the end; the test is skipped where there is none. It needs the extra `browser`."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    path = os.environ.get("QUANTRECIPE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium here")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def violations(page: Any) -> list[tuple[str, str, str]]:
    """What axe finds on a page: how bad, which rule, where. axe is a script: the context has to bypass policies."""
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="pip install axe-core-python").Axe()
    return [(it["impact"], it["id"], it["nodes"][0]["html"]) for it in axe.run(page)["violations"]]
