"""The slider: the mix follows it, and the page's numbers are those that `quantrecipe plan` has of the text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.studio_page import choose, figures, map_types, settled, shown, slide, text_of

from quantrecipe.cli import main
from quantrecipe.studio.editing import file_of

pytestmark = pytest.mark.browser

EXAMPLE = Path(__file__).parents[3] / "examples" / "tiny-code"
SHAPE = "shapes/qwen3-0.6b"

Planned = Callable[[str, str | Path], Any]


@pytest.fixture
def planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Planned:
    """What `quantrecipe plan --json` says of a text."""

    def plan(text: str, model: str | Path) -> Any:
        path = tmp_path / file_of(text)  # a plan's file has the recipe's name in it
        path.write_text(text, encoding="utf-8")
        capsys.readouterr()
        assert main(["plan", "--json", str(path), str(model)]) == 0
        return json.loads(capsys.readouterr().out)

    return plan


def nbytes(page: Any) -> int:
    """The size on the page, to the byte."""
    match = re.search(r"([\d,]+) B\b", figures(page)["Size"])
    assert match is not None
    return int(match[1].replace(",", ""))


def agrees(page: Any, plan: Any) -> None:
    """The page shows just this plan."""
    assert nbytes(page) == plan["nbytes"]
    assert float(figures(page)["Bits per weight"].split()[0]) == pytest.approx(
        plan["bits_per_weight"], abs=6e-3
    )
    on_map = map_types(page)
    seen = 0
    for tensor in plan["tensors"]:
        if (match := re.fullmatch(r"blk\.(\d+)\.(.+)\.weight", tensor["name"])) is None:
            continue
        if (match[1], match[2]) in on_map:
            seen += 1
            assert on_map[match[1], match[2]] == tensor["type"]
    assert seen > len(plan["tensors"]) / 3


@pytest.mark.parametrize("model", [SHAPE, EXAMPLE], ids=["shape", "folder"])
def test_a_smaller_budget_makes_a_smaller_mix_and_its_text_plans_to_the_same(
    page: Any, planned: Planned, model: str | Path
) -> None:
    choose(page, model)
    before = nbytes(page)
    agrees(page, planned(text_of(page), model))
    slide(page, "PageDown", 3)
    assert nbytes(page) < before
    agrees(page, planned(text_of(page), model))
    text = text_of(page)
    slide(page, "End")
    assert nbytes(page) > before
    assert text_of(page) != text


def test_each_kind_of_budget_is_kept(page: Any, planned: Planned) -> None:
    choose(page, SHAPE)
    amount = page.get_by_role("spinbutton")
    for kind, value, of in (
        ("Bits", "4.4", lambda: float(figures(page)["Bits per weight"].split()[0])),
        ("Size", "390", lambda: nbytes(page) / (1 << 20)),
        ("VRAM", "1000", lambda: float(figures(page)["Memory"].split()[0])),
    ):
        page.get_by_role("radio", name=kind).check()
        amount.fill(value)
        settled(page)
        assert 0.9 * float(value) <= of() <= float(value)
    agrees(page, planned(text_of(page), SHAPE))
    assert "fits" in figures(page)["Memory"]
    memory = figures(page)["Memory"]
    page.get_by_label("Context").select_option(label="32k")
    settled(page)
    assert figures(page)["Memory"] != memory
    assert float(figures(page)["Memory"].split()[0]) <= 1000


def test_an_amount_that_is_none_and_one_that_no_mix_has(page: Any) -> None:
    choose(page, SHAPE)
    amount = page.get_by_role("spinbutton")
    amount.fill("0")
    shown(page, "#goal-problem", "no amount")
    amount.fill("1")
    settled(page)
    assert page.locator("#goal-problem").inner_text() == ""
    assert "smallest" in page.locator("#limit").inner_text()


def test_stock_mixes_are_marks_that_one_can_go_to(page: Any) -> None:
    choose(page, SHAPE)
    slide(page, "Home")
    page.get_by_role("button", name="Q6_K", exact=True).click()
    settled(page)
    bits = float(figures(page)["Bits per weight"].split()[0])
    assert 6 < bits < 7
    assert page.get_by_role("slider").get_attribute("aria-valuetext").endswith("MiB")


def test_what_differs_from_the_base_has_a_sign(page: Any) -> None:
    choose(page, SHAPE)
    page.get_by_label("Compare with").select_option("")
    settled(page)
    assert page.locator("#map td.changed").count() == 0
    assert page.locator("#signs").is_hidden()
    page.get_by_label("Compare with").select_option("llama.cpp/Q8_0")
    settled(page)
    changed = page.locator("#map td.changed").all_inner_texts()
    assert changed
    assert all(it.endswith("▼") for it in changed)
    assert "llama.cpp/Q8_0" in page.locator("#changes").inner_text()
    assert "against base" in figures(page)["Expected loss"]


def test_one_move_is_asked_at_a_time_and_the_last_one_counts(page: Any) -> None:
    choose(page, SHAPE)
    running = most = 0
    last: dict[str, Any] = {}

    def asked(request: Any) -> None:
        nonlocal running, most
        if request.url.endswith("/api/move"):
            running += 1
            most = max(most, running)
            last.update(request.post_data_json["goal"])

    def answered(request: Any) -> None:
        nonlocal running
        running -= request.url.endswith("/api/move")

    page.on("request", asked)
    page.on("requestfinished", answered)
    page.on("requestfailed", answered)
    page.get_by_role("slider").evaluate(
        """async it => {
          for (let step = 0; step < 40; step += 1) {
            it.value = 200 + 10 * step;
            it.dispatchEvent(new Event("input"));
            await new Promise(requestAnimationFrame);
          }
        }"""
    )
    settled(page)
    assert most == 1
    said = page.get_by_role("slider").get_attribute("aria-valuetext").split()
    assert last["value"] / (1 << 20) == pytest.approx(float(said[0]), abs=0.01)
    assert nbytes(page) <= last["value"]


def test_all_of_it_by_keyboard(page: Any) -> None:
    """No pointer: choose a model, slide, look at the map, go to a rule."""
    page.locator("#model:focus").wait_for()
    page.keyboard.type("0.6b")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.title.startsWith('qwen3-0.6b')")
    settled(page)
    before = nbytes(page)

    def reach(selector: str) -> None:
        for _ in range(80):
            if page.evaluate("it => document.activeElement.matches(it)", selector):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"Tab never comes to {selector}")

    reach("#slider")
    page.keyboard.press("PageUp")
    settled(page)
    assert nbytes(page) > before
    reach("table.map td")
    field = "document.activeElement.dataset.y + ' ' + document.activeElement.dataset.x"
    assert page.evaluate(field) == "0 0"
    for key, place in (
        ("ArrowRight", "0 1"),
        ("ArrowDown", "1 1"),
        ("End", "1 7"),
        ("Control+Home", "0 0"),
        ("PageDown", "10 0"),
    ):
        page.keyboard.press(key)
        assert page.evaluate(field) == place
    assert page.locator("table.map").first.locator("td[tabindex='0']").count() == 1
    assert "layer 10" in page.locator("#cell").inner_text()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "text"
    line = page.evaluate(
        "document.activeElement.value.slice(0, document.activeElement.selectionStart).split('\\n').length"
    )
    assert line > 1
    assert page.evaluate("document.activeElement.matches(':focus-visible')")


def test_recent_models_are_proposed(page: Any) -> None:
    choose(page, SHAPE)
    page.get_by_role("combobox", name="Model", exact=True).click()
    heads = page.locator("#models .heading").all_inner_texts()
    assert heads == ["Opened before", "Reference shapes"]
    assert page.locator("#models [role=option]").first.inner_text() == SHAPE
    page.keyboard.press("Escape")
    assert page.locator("#models").is_hidden()
