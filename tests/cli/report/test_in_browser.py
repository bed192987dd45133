"""The page in a real Chromium: nothing for axe to find, nothing wider than the screen, nothing from elsewhere.

It needs the extra `browser` and a Chromium: Debian's, or what $QUANTRECIPE_CHROMIUM names.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.chromium import violations

from quantrecipe.cli import main

pytestmark = pytest.mark.browser

EXAMPLE = Path(__file__).parents[3] / "examples" / "tiny-code"
PAGES = {
    "small": ["quantrecipe/code-model", str(EXAMPLE), "--base", "Q4_K_M"],
    "experts": ["quantrecipe/chat", "shapes/qwen3-30b-a3b"],
    "hybrid": ["Q3_K_M", "Q4_K_M", "shapes/qwen3-coder-next"],
}


@pytest.fixture(scope="module", params=PAGES)
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("matplotlib")
    path = tmp_path_factory.mktemp("pages") / f"{request.param}.html"
    assert main(["report", *PAGES[request.param], "-o", str(path)]) == 0
    return path.as_uri()


@pytest.mark.parametrize(("width", "scheme"), [*product((1280, 390), ("light", "dark"))])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    chromium: Any, address: str, width: int, scheme: str
) -> None:
    size = {"width": width, "height": 900}
    # axe is a script, which the page's own policy forbids.
    context = chromium.new_context(viewport=size, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(address)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_nothing_is_asked_of_anybody_and_no_script_runs(chromium: Any, address: str) -> None:
    context = chromium.new_context()
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(address)
    assert asked == [address]
    assert said == []
    with pytest.raises(Exception, match="Content Security Policy"):
        page.add_script_tag(content="document.title = 'changed'")
    context.close()


def test_it_is_there_by_keyboard(chromium: Any, address: str) -> None:
    """Tab goes through links, tables and what is folded; Enter opens that."""
    context = chromium.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(address)
    names = []
    for _ in range(60):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate("document.activeElement.tagName + (document.activeElement.className || '')")
        )
    assert {"A", "DIVscroll", "DIVwide", "SUMMARY"} <= {*names}
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details[open]").count() == 1
    context.close()


def test_it_prints_in_the_colours_of_light(chromium: Any, address: str, tmp_path: Path) -> None:
    context = chromium.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(address)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.pdf(path=tmp_path / "page.pdf", format="A4").startswith(b"%PDF")
    context.close()
