"""Rules: when they apply, and that values of a wrong kind make none of them fail."""

from __future__ import annotations

from typing import Any

import pytest

from quantrecipe.model.architectures.completion.rules import (
    FILLS,
    MAX_LAYERS,
    Rule,
    all_layers,
    always,
    derive,
    fill,
    kinds,
    rank,
)


def derived(values: dict[str, Any], *rules: Rule) -> dict[str, Any]:
    found = dict(values)
    derive(found, rules)
    return found


def test_a_rule_fills_what_is_missing_or_null() -> None:
    rule = fill("x", lambda v: 5)
    assert [derived(given, rule)["x"] for given in ({}, {"x": None}, {"x": 0}, {"x": False})] == [
        5,
        5,
        0,
        False,
    ]


def test_some_replace_what_is_there() -> None:
    assert derived({"x": 1}, always("x", lambda v: v["x"] + 1)) == {"x": 2}


def test_rules_see_what_others_made() -> None:
    assert derived({"a": 1}, fill("b", lambda v: v["a"] + 1), fill("c", lambda v: v["b"] + 1))["c"] == 3


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("head_dim", {"hidden_size": 100, "num_attention_heads": 3}, 33),
        ("head_dim", {"hidden_size": 100, "num_attention_heads": 3, "head_dim": 8}, 8),
        ("head_dim, always", {"hidden_size": 100, "num_attention_heads": 3, "head_dim": 8}, 33),
        ("rotary head_dim", {"qk_rope_head_dim": 8}, 8),
        ("rotary head_dim, always", {"qk_rope_head_dim": 8, "head_dim": 4}, 8),
        ("qk_head_dim", {"qk_rope_head_dim": 8, "qk_nope_head_dim": 16}, 24),
        ("num_key_value_heads", {"num_attention_heads": 3}, 3),
    ],
)
def test_rules_that_many_classes_share(name: str, values: dict[str, Any], expected: int) -> None:
    assert derived(values, FILLS[name])[FILLS[name].key] == expected


@pytest.mark.parametrize("hidden", ["4096", None, [], {}, 1.5e308])
@pytest.mark.parametrize("heads", [0, "32", None, [], {}])
def test_nothing_follows_from_values_of_a_wrong_kind(hidden: Any, heads: Any) -> None:
    given = {"hidden_size": hidden, "num_attention_heads": heads}
    assert derived(given, FILLS["head_dim"]) == given
    assert derived({}, FILLS["head_dim"]) == {}


@pytest.mark.parametrize("layers", [MAX_LAYERS + 1, 2**62, -1, True, 2.0, "2", None])
def test_no_list_is_made_for_layers_that_can_not_be(layers: Any) -> None:
    given = {"num_hidden_layers": layers}
    assert derived(given, all_layers("full_attention")) == given


def test_kinds_of_layers() -> None:
    rule = kinds(lambda v, layer: layer == v["full"], "conv")
    assert derived({"num_hidden_layers": 3, "full": 1}, rule)["layer_types"] == [
        "conv",
        "full_attention",
        "conv",
    ]


def test_a_rank_that_is_left_open() -> None:
    assert derived({"hidden_size": 33, "r": "auto"}, rank("r"))["r"] == 3
    assert derived({"hidden_size": 33, "r": 7}, rank("r"))["r"] == 7
