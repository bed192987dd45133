"""A text as somebody edits it: where its problems are, and what its file is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.studio import SMALL

from quantrecipe.studio.editing import edited, file_of, problem_documents
from quantrecipe.studio.opened import Opened

Opens = Callable[[str], Opened]


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("quantrecipe: 1\nname: mine\n", "mine.yaml"),
        ('name: "mine 2"  # two\n', "mine-2.yaml"),
        ("name: 'a/../b'\n", "a-..-b.yaml"),
        ("name: ../../x\n", "x.yaml"),
        ("name:   <script>\n", "script.yaml"),
        ("name: é_1.2\n", "é_1.2.yaml"),
        ("name:\nsummary: x\n", "recipe.yaml"),
        ("  name: nested\n", "recipe.yaml"),
        ("", "recipe.yaml"),
        (f"name: {'x' * 300}\n", f"{'x' * 100}.yaml"),
    ],
)
def test_the_name_of_the_file(text: str, file: str) -> None:
    assert file_of(text) == file


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("quantrecipe: 1\nrules:\n  - {tensors: a, typ: Q4_K}   \n", (3, 28)),
        ("quantrecipe: 1\ndefautl: Q4_K   \n", (2, 14)),
        ("quantrecipe: 1\ndefault: Q4K\n", (2, 13)),
        ("default: Q4_K\n", (1, 14)),
        ("quantrecipe: 1\n  defautl: Q4_K   \n", (2, 16)),
    ],
)
def test_where_a_problem_is(text: str, place: tuple[int, int], opened_for_tests: Opens) -> None:
    found = edited(opened_for_tests(SMALL), text, Path())
    assert found.plan is None
    first = problem_documents(found)[0]
    assert (first["end_line"], first["end_column"]) == place
    assert first["line"] == place[0]
    assert 1 <= first["column"] <= first["end_column"]
    assert first["severity"] == "error"


def test_what_is_about_the_whole_text(opened_for_tests: Opens) -> None:
    (only,) = problem_documents(edited(opened_for_tests(SMALL), "", Path()))
    assert (only["message"], only["line"], only["column"]) == ("the recipe is empty", None, None)


def test_a_problem_of_another_file_says_which(opened_for_tests: Opens, tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text("quantrecipe: 1\ndefault: Q4K\n")
    found = edited(opened_for_tests(SMALL), "quantrecipe: 1\nextends: parent.yaml\n", tmp_path)
    first = problem_documents(found)[0]
    assert (first["line"], first["column"], first["end_line"], first["end_column"]) == (None,) * 4
    assert first["message"].startswith("parent.yaml:2: ")


def test_what_only_the_plan_finds(opened_for_tests: Opens) -> None:
    """The text is fine, and this model can't be made by it."""
    found = edited(opened_for_tests(SMALL), "quantrecipe: 1\ndefault: Q4_K\nbudget: {size: 1MB}\n", Path())
    assert found.plan is None
    errors = [it for it in problem_documents(found) if it["severity"] == "error"]
    assert [(it["line"], it["code"]) for it in errors] == [(3, "QR001")]
    assert "the recipe takes more than the budget allows" in errors[0]["message"]


def test_a_matrix_that_the_text_names(opened_for_tests: Opens, tmp_path: Path) -> None:
    text = "quantrecipe: 1\ndefault: IQ2_XS\nimportance: {file: nowhere.gguf}\n"
    found = edited(opened_for_tests(SMALL), text, tmp_path)
    assert any("nowhere.gguf" in it["message"] for it in problem_documents(found))


def test_advice_is_a_note(opened_for_tests: Opens) -> None:
    text = "quantrecipe: 1\nname: x\ndefault: Q2_K\nrules:\n  - {tensors: head, type: Q3_K, why: small}\n"
    found = edited(opened_for_tests(SMALL), text, Path())
    assert found.plan is not None
    notes = [it for it in problem_documents(found) if it["severity"] == "note"]
    assert notes and all(it["code"].startswith("QR") for it in notes)
