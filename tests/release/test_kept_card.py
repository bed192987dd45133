"""The card: what is ours is written anew, and what people wrote stays."""

from __future__ import annotations

import pytest

from quantrecipe.release.kept_card import merge_card

FRONT, BODY = "license: mit\ntags:\n- gguf\n", "# Model\n\nA table.\n"
NEW_FRONT, NEW_BODY = FRONT.replace("mit", "other"), BODY.replace("A table", "Another table")


def first() -> str:
    return merge_card(None, FRONT, BODY).text


def test_a_first_card() -> None:
    text = first()
    assert text.startswith("---\nlicense: mit\ntags:\n- gguf\n---\n\n<!-- quantrecipe:begin body=")
    assert "-->\n# Model\n\nA table.\n<!-- quantrecipe:end -->\n" in text


def test_the_same_again_changes_nothing() -> None:
    again = merge_card(first(), FRONT, BODY)
    assert (again.text, again.kept, again.kept_front, again.diff) == (first(), False, False, "")


def test_what_is_ours_is_written_anew() -> None:
    assert merge_card(first(), NEW_FRONT, NEW_BODY).text == merge_card(None, NEW_FRONT, NEW_BODY).text


def test_what_stands_outside_the_marks_stays() -> None:
    text = first().replace("---\n\n<!--", "---\n\nHello!\n\n<!--") + "\n## Thanks\n"
    made = merge_card(text, NEW_FRONT, NEW_BODY)
    assert (made.kept, made.diff) == (False, "")
    assert "\nHello!\n" in made.text
    assert made.text.endswith("<!-- quantrecipe:end -->\n\n## Thanks\n")
    assert "Another table" in made.text
    assert "A table" not in made.text
    assert merge_card(made.text, NEW_FRONT, NEW_BODY).text == made.text


@pytest.mark.parametrize("force", [False, True])
def test_what_was_edited_between_the_marks(force: bool) -> None:
    text = first().replace("A table", "A better table") + "\nmine\n"
    made = merge_card(text, NEW_FRONT, NEW_BODY, force=force)
    assert made.kept is not force
    if force:
        assert "Another table" in made.text
        assert made.text.endswith("\nmine\n")
    else:
        assert made.text == text
        assert "-A better table." in made.diff
        assert "+Another table." in made.diff


def test_a_front_matter_that_was_edited_stays_and_the_rest_is_written() -> None:
    text = first().replace("license: mit", "license: llama3.1")
    made = merge_card(text, FRONT, NEW_BODY)
    assert (made.kept, made.kept_front) == (False, True)
    assert "license: llama3.1" in made.text
    assert "Another table" in made.text
    assert "-license: llama3.1\n+license: mit" in made.diff
    again = merge_card(made.text, FRONT, NEW_BODY)
    assert (again.text, again.kept_front) == (made.text, True)
    assert "license: mit" in merge_card(made.text, FRONT, NEW_BODY, force=True).text


def test_a_front_matter_that_was_edited_to_what_is_said_now_is_ours_again() -> None:
    text = first().replace("license: mit", "license: other")
    assert merge_card(text, NEW_FRONT, BODY).kept_front is False


@pytest.mark.parametrize("text", ["# My own card\n", "", first() + first(), "<!-- quantrecipe:begin -->"])
def test_a_card_of_somebody_else_stays(text: str) -> None:
    made = merge_card(text, FRONT, BODY)
    assert (made.text, made.kept) == (text, True)
    assert "+license: mit" in made.diff or text.count("license") > 1
    assert merge_card(text, FRONT, BODY, force=True).text == first()


def test_a_card_without_its_front_matter_is_not_given_one_unseen() -> None:
    text = first().partition("---\n\n")[2]
    made = merge_card(text, FRONT, NEW_BODY)
    assert made.kept_front
    assert made.text.startswith("<!-- quantrecipe:begin")


def test_line_ends_of_windows_are_no_edit() -> None:
    assert merge_card(first().replace("\n", "\r\n"), FRONT, BODY).text == first()
