"""The comment: hostile texts stay texts, and it is never too long."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quantrecipe.cli.ci.changed_recipes import Change
from quantrecipe.cli.ci.comment import Examined, comment
from quantrecipe.cli.diff.comparison import Comparison
from quantrecipe.errors import Problem, QuantrecipeError
from quantrecipe.lint import Finding, Report


def examined(what: str, path: str = "recipes/a.yaml", times: int = 1) -> Examined:
    problem = Problem(what=what, remedy="`mend` it", file=path, line=3)
    finding = Finding(code="QR001", severity="error", problem=problem)
    report = Report(ref=path, recipe=None, findings=(finding,) * times)
    return Examined(change=Change(kind="changed", path=path, old=path), report=report)


def test_what_was_found() -> None:
    text = comment([examined("bad")], "main")
    assert "- 🔴 **QR001** `recipes/a.yaml:3`: bad; `mend` it\n" in text
    assert "<details open><summary>Findings (1)</summary>" in text
    assert "It can't be planned on any of the models." in text


@pytest.mark.parametrize(
    "what", ["@everyone <img src=x> **b** [l](http://x) | a", "a ` b", "<!-- quantrecipe -->\n# x"]
)
def test_nothing_in_a_recipe_becomes_markup(what: str) -> None:
    text = comment([examined(what)], "main")
    line = next(line for line in text.splitlines() if "QR001" in line)
    line = re.sub(r"\\.", "", line)  # what is escaped is a letter like others
    for markup in ("@everyone", "<img", "**b**", "](http://", "<!--"):
        assert markup not in line
    assert "\n# x" not in text


def test_a_path_can_t_end_its_code() -> None:
    text = comment([examined("bad", path="recipes/a`b.yaml")], "main")
    assert "`recipes/a'b.yaml:3`" in text


def test_many_findings_are_cut() -> None:
    text = comment([examined("bad", times=100)], "main")
    assert text.count("QR001") == 30
    assert "- … and 70 more: `quantrecipe check` shows them all" in text


def test_it_is_never_longer_than_github_takes() -> None:
    error = QuantrecipeError("x" * 3_000)
    comparisons = tuple(
        Comparison(model=f"shapes/{number}", old_error=error, new_error=error) for number in range(20)
    )
    items = [
        Examined(
            change=Change(kind="changed", path=f"recipes/{number}.yaml", old=f"recipes/{number}.yaml"),
            report=None,
            comparisons=comparisons,
        )
        for number in range(10)
    ]
    text = comment(items, "main")
    assert len(text) < 65_536
    assert all(f"recipes/{number}.yaml" in text for number in range(10))


def test_findings_of_shipped_parents_have_a_place_too(tmp_path: Path) -> None:
    assert "`llama.cpp@b11312/Q4_K_M:3`" in comment([examined("bad", path="llama.cpp@b11312/Q4_K_M")], "main")
