"""Long texts are cut, and of many names the first are listed."""

from __future__ import annotations

import pytest

from quantrecipe.wording import closest, listed, quoted, shortened, some_of


@pytest.mark.parametrize("length", [0, 1, 59, 60])
def test_what_fits_stays(length: int) -> None:
    text = "x" * length
    assert shortened(text) == text
    assert quoted(text) == f"'{text}'"


def test_what_is_longer_ends_with_dots() -> None:
    assert shortened("x" * 61) == "x" * 57 + "…"
    assert shortened("x" * 31, 30) == "x" * 27 + "…"
    assert quoted("\n" * 100) == "'" + "\\n" * 57 + "…'"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ((), ""),
        (("a",), "a"),
        (("a", "b"), "a, b"),
        (("a", "b", "c"), "a, b, c"),
        (("a", "b", "c", "d"), "a, b and 2 more"),
        (dict.fromkeys("abcdef"), "a, b and 4 more"),
    ],
)
def test_some_of_many_names(names: tuple[str, ...], text: str) -> None:
    assert some_of(names, 2) == text


def test_more_of_what() -> None:
    assert some_of(("a", "b", "c"), 1, "more lines") == "a and 2 more lines"


def test_what_may_have_been_meant() -> None:
    assert closest("atn_v", ["attn_v", "attn_q"]) == "attn_v"
    assert closest("xyz", ["attn_v"]) is None
    assert closest("a" * 10**6, ["b" * 10**6] * 10**4) is None


def test_only_the_first_of_very_many_names_are_listed() -> None:
    assert listed("ab") == "a, b"
    assert listed(map(str, range(40))).endswith("38, 39")
    assert listed(map(str, range(10**6))).endswith("38, 39, …")
