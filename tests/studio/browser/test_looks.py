"""How the page looks to everybody: nothing for axe to find, nothing wider than the screen, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.chromium import violations
from support.studio_page import choose, new_text, shown, text_of

pytestmark = pytest.mark.browser

EXAMPLE = Path(__file__).parents[3] / "examples" / "tiny-code"


def fits(page: Any) -> bool:
    """Nothing is wider than the screen."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


@pytest.mark.parametrize(("width", "scheme"), [*product((1280, 390), ("light", "dark"))])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    new_page: Callable[..., Any], address: str, width: int, scheme: str
) -> None:
    # axe is a script, which the page's own policy forbids.
    page = new_page(width, color_scheme=scheme, bypass_csp=True)
    page.goto(address)
    page.locator("#shapes button").first.wait_for()
    assert violations(page) == []
    assert fits(page)
    choose(page, "shapes/qwen3-0.6b")
    assert violations(page) == []
    assert fits(page)
    # All at once: a text with errors, proposals, and the bar that asks.
    new_text(page, text_of(page), "quantrecipe: 1\nname: mine\nrules:\n  - {tensors: all, type: Q9}\n")
    shown(page, "#problems-title", "error")
    assert violations(page) == []
    page.get_by_role("slider").press("PageDown")
    page.locator("#offer button").first.wait_for()
    page.locator("#text").press("Control+Home")
    page.locator("#text").press("Control+Space")
    page.locator("#proposals").wait_for()
    # A field of many lines can't be a combobox, so axe doesn't know that arrow keys scroll its list.
    found = [
        it for it in violations(page) if it[1] != "scrollable-region-focusable" or "proposals" not in it[2]
    ]
    assert found == []
    assert fits(page)


def test_a_small_screen_has_links_and_any_is_wide_enough(new_page: Callable[..., Any], address: str) -> None:
    page = new_page(390, 844)
    page.goto(address)
    choose(page, EXAMPLE)
    page.get_by_role("navigation").get_by_role("link", name="Recipe").click()
    assert page.locator("#recipe-title").evaluate("it => it.getBoundingClientRect().top") < 200
    assert "bits" in page.locator("#short").inner_text()
    assert page.locator("#short").evaluate("it => it.getBoundingClientRect().top") >= 0
    for width in (320, 800, 1150, 1900):
        page.set_viewport_size({"width": width, "height": 800})
        assert fits(page)


def test_light_and_dark_are_the_browser_s(new_page: Callable[..., Any], address: str) -> None:
    colours = []
    for scheme in ("light", "dark"):
        page = new_page(color_scheme=scheme)
        page.goto(address)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(255, 255, 255)", "rgb(13, 17, 23)"]


def test_nothing_is_asked_of_anybody_else_and_the_address_loses_its_token(page: Any, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    choose(page, EXAMPLE)
    origin = address[: address.index("/?")]
    assert all(it.startswith(f"{origin}/") for it in asked)
    assert page.url == f"{origin}/"


def test_no_script_of_strangers_runs(chromium: Any, address: str) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(address)
    with pytest.raises(Exception, match="Content Security Policy"):
        page.add_script_tag(content="document.title = 'changed'")
    context.close()


def test_without_javascript_there_is_a_sentence(new_page: Callable[..., Any], address: str) -> None:
    page = new_page(java_script_enabled=False)
    page.goto(address)
    assert "switched off in this browser" in page.locator("body").inner_text()
    assert page.locator("main").inner_text().strip() == ""
    assert page.locator("header").is_hidden()
