"""What JSON is made of: dataclasses in the order of their fields, nothing that JSON can't hold, nothing guessed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from quantrecipe.plain_data import fields_of, plain, rounded_bits, significant

FOLDER = PurePosixPath("a/b")


@dataclass(frozen=True, kw_only=True)
class Named:
    name: str
    path: PurePosixPath = FOLDER
    losses: Mapping[str, float] | None = None

    @property
    def length(self) -> int:
        return len(self.name)


@dataclass(frozen=True, kw_only=True)
class Held:
    z: int
    items: tuple[Named, ...]

    def to_json(self) -> dict[str, Any]:
        return {"held": self.items, **fields_of(self, "z")}


def test_a_dataclass_is_its_fields_in_the_order_of_their_declaration() -> None:
    found = plain(Named(name="q", losses={"Q4_K": 0.5}))
    assert list(found) == ["name", "path", "losses"]
    assert found == {"name": "q", "path": "a/b", "losses": {"Q4_K": 0.5}}


def test_what_stands_below_a_value_s_own_keys_is_made_plain_too() -> None:
    found = plain([Held(z=1, items=(Named(name="q"),))])
    assert found == [{"held": [{"name": "q", "path": "a/b", "losses": None}], "z": 1}]
    assert list(found[0]) == ["held", "z"]


def test_computed_attributes_count_as_fields_where_they_are_named() -> None:
    assert list(fields_of(Named(name="four"), "length", "name").items()) == [("length", 4), ("name", "four")]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_json_has_no_number_for_it(number: float) -> None:
    assert plain({"a": (number, 1.5)}) == {"a": [None, 1.5]}
    json.dumps(plain([number]), allow_nan=False)


def test_paths_as_keys_are_texts() -> None:
    assert plain({Path("x"): 1}) == {"x": 1}


def test_true_stays_true() -> None:
    assert plain((True, 1, None, "x")) == [True, 1, None, "x"]
    assert plain(True) is True


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"], ids=["object", "set", "bytes"])
def test_nothing_is_guessed(value: object) -> None:
    with pytest.raises(TypeError, match="has no plain form"):
        plain({"deep": [value]})


def test_digits() -> None:
    assert rounded_bits(4.123456) == 4.1235
    assert rounded_bits(None) is None
    assert significant(0.000123456789) == 0.000123457
    assert significant(0.000123456789, 3) == 0.000123
