"""What goes wrong: models that aren't there, or vanish; hostile names; a server that is gone; a reloaded page."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.studio_page import Started, choose, figures, new_text, settled, shown, slide, text_of

pytestmark = pytest.mark.browser

EXAMPLE = Path(__file__).parents[3] / "examples" / "tiny-code"
SHAPE = "shapes/qwen3-0.6b"
HOSTILE = "<img src=x onerror=document.title='taken'>"


def test_a_model_that_is_not_there_is_said_at_the_field(page: Any) -> None:
    field = page.get_by_role("combobox", name="Model", exact=True)
    field.fill(f"/there/is/no/{HOSTILE}")
    field.press("Enter")
    shown(page, "#model-problem", "onerror")
    assert page.locator("#model-problem img").count() == 0
    assert page.locator("#columns").is_hidden()
    choose(page, SHAPE)
    assert page.locator("#model-problem").inner_text() == ""


def test_a_model_that_vanishes_is_said_and_others_go_on(page: Any, tmp_path: Path) -> None:
    folder = tmp_path / "vanishing"
    shutil.copytree(EXAMPLE, folder)
    choose(page, folder)
    shutil.rmtree(folder)
    page.get_by_role("slider").press("PageDown")
    shown(page, "#model-problem", "vanishing")
    assert text_of(page)
    choose(page, SHAPE)
    assert page.locator("#model-problem").inner_text() == ""


def test_hostile_names_are_text(page: Any, tmp_path: Path) -> None:
    tensors = llama_tensors()
    for layer in range(2):
        tensors[f"blk.{layer}.{HOSTILE}.weight"] = np.ones((256, 256), np.float32)
    tensors["<b>turned</b>\u202e.weight"] = np.ones((64, 256), np.float32)
    path = tmp_path / "<i>model.gguf"
    write_gguf(path, tensors, llama_metadata())
    choose(page, path)
    slide(page, "PageDown")
    assert HOSTILE in page.locator("#map").inner_text().replace("\n", "")
    assert page.locator("#columns img, #columns #map b, #facts i").count() == 0
    assert "<i>model.gguf" in page.locator("#facts").inner_text()
    assert "\u202e" not in page.locator("#map").inner_text()
    assert "\\u202e" in page.locator("#map").inner_text()
    assert page.title().startswith("<i>model")


def test_a_server_that_is_gone_is_told_and_comes_back(page: Any) -> None:
    choose(page, SHAPE)
    before = figures(page)["Size"]
    page.route("**/api/**", lambda route: route.abort())
    page.get_by_role("slider").press("PageDown")
    shown(page, "#gone", "doesn’t answer")
    assert "Start quantrecipe studio again" in page.locator("#gone").inner_text()
    assert figures(page)["Size"] == before
    page.unroute("**/api/**")
    page.locator("#gone p").wait_for(state="detached")
    settled(page)
    assert figures(page)["Size"] != before


def test_a_server_that_has_another_token_does_not_take_the_page(new_page: Callable[..., Any]) -> None:
    page = new_page()
    with Started(SHAPE) as (_, address):
        page.goto(address)
        settled(page)
    port = address.split(":")[2].split("/")[0]
    page.get_by_role("slider").press("PageDown")
    shown(page, "#gone", "doesn’t answer")
    with Started("--port", port):
        shown(page, "#gone", "doesn’t take this page")
        assert text_of(page)


def test_a_reloaded_page_goes_on_with_what_it_had(page: Any) -> None:
    choose(page, SHAPE)
    new_text(page, "quantrecipe: 1", "quantrecipe: 1  # mine")
    shown(page, "#text-is", "changed by hand")
    page.reload()
    shown(page, "#text-is", "changed by hand")
    assert "# mine" in text_of(page)
    assert page.title().startswith("qwen3-0.6b")


def test_what_the_command_line_names_is_open(new_page: Callable[..., Any], tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        'quantrecipe: 1\nname: mine\nrules:\n  - {tensors: "*", type: Q8_0, why: all}\n', encoding="utf-8"
    )
    page = new_page()
    with Started(SHAPE, "--recipe", recipe, "--base", "Q4_K_M") as (_, address):
        page.goto(address)
        shown(page, "#shows", "your text’s mix")
        shown(page, "#changes", "Q4_K_M")
        assert "name: mine" in text_of(page)
        assert page.locator("#welcome").is_hidden()
