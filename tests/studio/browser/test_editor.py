"""The recipe's text: problems at their lines, proposals, what the slider may replace, and what one takes along."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.studio_page import choose, figures, map_types, new_text, settled, shown, slide, text_of

pytestmark = pytest.mark.browser

SHAPE = "shapes/qwen3-0.6b"


@pytest.fixture
def opened(page: Any) -> Any:
    """A small shape, with the slider's mix."""
    choose(page, SHAPE)
    return page


def line_of_cursor(page: Any) -> int:
    """Where the cursor is in the text."""
    return int(
        page.locator("#text").evaluate("it => it.value.slice(0, it.selectionStart).split('\\n').length")
    )


def test_an_error_is_shown_at_its_line_and_undone(opened: Any) -> None:
    page = opened
    text = text_of(page)
    (type_,) = re.findall(r"type: (\w+)", text)[:1]
    line = text[: text.index(f"type: {type_}")].count("\n") + 1
    new_text(page, f"type: {type_}", "type: Q9_K")
    shown(page, "#problems-title", "1 error")
    shown(page, "#shows", "the last mix without errors")
    assert page.locator("#gutter .error").inner_text() == f"✕ {line}"
    problem = page.locator("#problems li.error")
    assert f"Line {line}, error" in problem.inner_text()
    assert "Q9_K" in problem.inner_text()
    assert page.locator("#text").get_attribute("aria-invalid") == "true"
    page.get_by_role("slider").focus()
    problem.get_by_role("button").click()
    assert line_of_cursor(page) == line
    page.keyboard.press("Control+z")
    assert text_of(page) == text
    shown(page, "#problems-title", "No problems")
    settled(page)
    assert page.locator("#gutter .error").count() == 0


def test_numbers_and_map_follow_what_is_typed(opened: Any) -> None:
    page = opened
    before, types = figures(page), map_types(page)
    (type_,) = re.findall(r"type: (\w+)", text_of(page))[:1]
    new_text(page, f"type: {type_}", "type: F16")
    shown(page, "#shows", "your text’s mix")
    shown(page, "#text-is", "changed by hand")
    assert figures(page)["Size"] != before["Size"]
    changed = {place for place, it in map_types(page).items() if it != types[place]}
    assert all(map_types(page)[place] == "F16" for place in changed)


def test_the_slider_asks_before_it_replaces_what_was_typed(opened: Any) -> None:
    page = opened
    (type_,) = re.findall(r"type: (\w+)", text_of(page))[:1]
    new_text(page, f"type: {type_}", "type: F16")
    shown(page, "#text-is", "changed by hand")
    own, size = text_of(page), figures(page)["Size"]
    slider = page.get_by_role("slider")
    slider.press("PageDown")
    shown(page, "#shows", "the slider’s mix")
    shown(page, "#text-is", "not the mix that is shown")
    page.get_by_role("button", name="Keep my text").click()
    shown(page, "#shows", "your text’s mix")
    assert text_of(page) == own
    page.wait_for_function(
        "size => document.querySelector('#figures').innerText.includes(size)", arg=size.split()[0]
    )
    assert page.locator("#offer").is_hidden()
    slider.press("PageDown")
    page.get_by_role("button", name="Take the slider’s mix").click()
    settled(page)
    shown(page, "#shows", "the slider’s mix")
    assert text_of(page) != own
    page.locator("#text").press("Control+z")
    assert text_of(page) == own


def test_a_value_is_completed_by_keyboard(opened: Any) -> None:
    page = opened
    (type_,) = re.findall(r"type: (\w+)", text_of(page))[:1]
    new_text(page, f"type: {type_}", "type: ")
    page.keyboard.press("Control+Space")
    proposals = page.get_by_role("listbox", name="What may stand here")
    proposals.wait_for()
    every = proposals.get_by_role("option").count()
    assert every > 10
    page.keyboard.press("Escape")
    proposals.wait_for(state="hidden")
    page.keyboard.type("Q5_")
    proposals.wait_for()
    page.wait_for_function(
        "every => document.querySelectorAll('#proposals [role=option]').length < every", arg=every
    )
    first = proposals.locator("[aria-selected=true]")
    assert page.locator("#text").get_attribute("aria-activedescendant") == first.get_attribute("id")
    label = first.locator(".label").inner_text()
    page.keyboard.press("ArrowDown")
    assert proposals.locator("[aria-selected=true] .label").inner_text() != label
    page.keyboard.press("ArrowUp")
    lines = text_of(page).count("\n")
    page.keyboard.press("Enter")
    proposals.wait_for(state="hidden")
    assert f"type: {label}" in text_of(page)
    assert text_of(page).count("\n") == lines
    shown(page, "#problems-title", "No problems")
    page.keyboard.press("Control+z")
    assert f"type: {label}" not in text_of(page)


def test_a_new_line_stands_below_the_one_before_and_tab_leaves(opened: Any) -> None:
    page = opened
    text = text_of(page)
    line = next(it for it in text.split("\n") if it.startswith("  "))
    new_text(page, line, line)
    page.keyboard.press("Enter")
    indent = line[: len(line) - len(line.lstrip())]
    assert f"{line}\n{indent}\n" in text_of(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") != "text"


def test_a_group_leads_to_its_rule(opened: Any) -> None:
    page = opened
    button = page.locator("#group-list button").last
    line = re.search(r"line (\d+)", button.get_attribute("title"))
    button.click()
    assert line is not None
    assert line_of_cursor(page) == int(line[1]) > 1
    assert page.evaluate("document.activeElement.id") == "text"


@pytest.mark.parametrize("name", ["Recipe", "Lock", "llama-quantize script"])
def test_what_one_takes_along(opened: Any, name: str, tmp_path: Path) -> None:
    page = opened
    with page.expect_download() as started:
        page.get_by_role("button", name=name, exact=True).click()
    path = tmp_path / started.value.suggested_filename
    started.value.save_as(path)
    text = path.read_text(encoding="utf-8")
    if name == "Recipe":
        assert text == text_of(page)
        assert path.suffix == ".yaml"
    else:
        assert ("llama-quantize" in text) == (name != "Lock")
        assert len(text) > 100
    shown(page, "#files-done", path.name)


def test_the_command_is_copied_or_shown(new_page: Any, address: str) -> None:
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto(address)
    choose(page, SHAPE)
    button = page.get_by_role("button", name="Copy llama-quantize’s command")
    button.click()
    shown(page, "#files-done", "Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "llama-quantize" in copied
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    button.click()
    assert page.locator("#files-done textarea").input_value() == copied


def test_a_file_is_made_of_the_slider_s_newest_mix(opened: Any, tmp_path: Path) -> None:
    """Who presses a button while the text still follows the slider gets what the slider says."""
    page = opened
    before = text_of(page)
    page.get_by_role("slider").press("Home")
    with page.expect_download() as started:
        page.get_by_role("button", name="Recipe", exact=True).click()
    started.value.save_as(tmp_path / "recipe.yaml")
    settled(page)
    assert (tmp_path / "recipe.yaml").read_text(encoding="utf-8") == text_of(page) != before


def test_errors_of_the_server_stand_by_the_buttons(opened: Any) -> None:
    page = opened
    new_text(page, text_of(page), "rules: [")
    shown(page, "#problems-title", "error")
    page.get_by_role("button", name="Lock", exact=True).click()
    page.locator("#files-problem p").wait_for()


def test_a_text_that_is_typed_while_the_slider_s_is_on_its_way_stays(opened: Any) -> None:
    page = opened
    slide(page, "PageDown")
    page.get_by_role("slider").press("PageDown")
    new_text(page, "quantrecipe: 1", "quantrecipe: 1  # mine")
    shown(page, "#text-is", "changed by hand")
    page.wait_for_timeout(700)  # a text of the slider would be there by now
    assert "# mine" in text_of(page)
