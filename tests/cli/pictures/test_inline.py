"""Figures within a page: nothing of two figures collides, colours are the page's, text is text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.pages import read_page

from quantrecipe.cli.pictures.inline import THEME, inline_svg, themed_axes

pytest.importorskip("matplotlib")


def drawn(key: str) -> str:
    figure, axes = themed_axes(3, 2)
    axes.plot([1, 2], [3, 4], "o-", color=THEME["first"], label="one")
    axes.text(1, 3, "<b> & words", color=THEME["ink"])
    axes.legend()
    return inline_svg(figure, key, "what <it> shows")


def test_two_figures_share_no_names() -> None:
    page = read_page(f"<div>{drawn('a')}{drawn('b')}</div>")
    assert page.problems == []
    assert {it.split("-")[1] for it in page.ids} == {"a", "b"}
    used = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', drawn("a"))
    assert used
    assert {one or other for one, other in used} <= {*page.ids}


def test_colours_are_the_page_s_and_text_is_text() -> None:
    svg = drawn("a")
    assert "var(--first)" in svg
    assert "var(--ink)" in svg
    assert not {colour for colour in THEME.values() if colour in svg}
    assert "&lt;b&gt; &amp; words" in svg
    assert "DejaVu" not in svg
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert 'role="img"' in svg
    assert "what &lt;it&gt; shows</title>" in svg


def test_the_same_figure_is_the_same_text() -> None:
    assert drawn("a") == drawn("a")


def test_every_page_that_the_program_makes_is_read_by_a_test() -> None:
    """`read_page` finds ids that are there twice, among others. A new page gets such a test, and its place here."""
    root = Path(__file__).parents[3]
    begins = re.compile(r"""['"]<!doctype html""", re.IGNORECASE)
    made = {
        path.relative_to(root / "quantrecipe").as_posix()
        for path in (root / "quantrecipe").rglob("*.py")
        if begins.search(path.read_text(encoding="utf-8"))
    }
    read = {
        "cli/report/frame.py": "cli/report/test_command.py",
        "cli/sensitivity/report.py": "cli/sensitivity/test_report.py",
        "cli/eval/answers.py": "cli/eval/test_answers.py",
        "studio/app.py": "studio/test_app.py",
    }
    assert made == set(read)
    for test in read.values():
        assert ".problems == []" in (root / "tests" / test).read_text(encoding="utf-8")
