"""Tables that ship are found by their paths within the package."""

from __future__ import annotations

import pytest

from quantrecipe.packaged import packaged_table


def test_toml_and_json() -> None:
    assert "floors" in packaged_table("lint/floors.toml")
    assert "$defs" in packaged_table("recipe/schema.json")


def test_a_table_is_read_once() -> None:
    assert packaged_table("lint/floors.toml") is packaged_table("lint/floors.toml")


def test_a_table_that_is_missing_is_a_bug_that_shows() -> None:
    with pytest.raises(FileNotFoundError):
        packaged_table("lint/no-such.toml")
