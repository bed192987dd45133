"""What differs in the text of two recipes."""

from __future__ import annotations

from support.recipes import recipe, rule

from quantrecipe.plan.review.rule_changes import Decided, rule_changes
from quantrecipe.recipe.recipe import Recipe


def changes(old: Recipe, new: Recipe, **effects: int) -> list[tuple[str, str, str, int | None]]:
    counts = {f"recipe.yaml:{line.removeprefix('line')}": count for line, count in effects.items()}
    decided = Decided(tensors=counts, changed=counts)
    return [(c.kind, c.what, c.origin, c.changes) for c in rule_changes(old, new, decided, decided)]


def test_the_same_rules_elsewhere_in_the_file() -> None:
    old = recipe(rule("attn_v", "Q6_K", line=3), rule("ffn_down", "Q5_K", line=4))
    new = recipe(rule("attn_v", "Q6_K", line=13), rule("ffn_down", "Q5_K", line=24))
    assert changes(old, new) == []


def test_a_rule_with_another_type_is_changed() -> None:
    old = recipe(rule("attn_v", "Q6_K", layers="first 2", line=3))
    new = recipe(rule("attn_v", "Q8_0", layers="first 2", line=5))
    assert changes(old, new, line5=2) == [
        ("changed", "attn_v in layers first 2: Q6_K → Q8_0", "recipe.yaml:5", 2)
    ]


def test_rules_that_come_and_go() -> None:
    old = recipe(rule("attn_v", "Q6_K", line=3))
    new = recipe(rule("ffn_down", "Q6_K", when="n_expert > 1", line=7))
    assert changes(old, new, line3=4) == [
        ("added", "ffn_down when n_expert > 1: Q6_K", "recipe.yaml:7", 0),
        ("removed", "attn_v: Q6_K", "recipe.yaml:3", 4),
    ]


def test_of_rules_that_say_the_same_the_parent_s_stays() -> None:
    inherited = rule("head", "Q6_K", line=90, own=False)
    new = recipe(rule("head", "Q6_K", line=2), inherited)
    assert changes(recipe(inherited), new) == [("added", "head: Q6_K", "recipe.yaml:2", 0)]


def test_rules_in_another_order() -> None:
    first, second, third = (
        rule(name, "Q6_K", line=n) for n, name in enumerate(("attn_*", "attn_v", "ffn_up"), 3)
    )
    assert changes(recipe(first, second, third), recipe(second, first, third)) == [
        ("moved", "attn_v: Q6_K", "recipe.yaml:4", 0)
    ]


def test_another_reason_has_no_effect() -> None:
    old, new = (recipe(rule("attn_v", "Q6_K", line=3, why=why)) for why in ("small", "values are small"))
    assert changes(old, new, line3=7) == [("reworded", "attn_v", "recipe.yaml:3", 7)]


def test_settings() -> None:
    found = changes(recipe(default="Q4_K"), recipe(default="Q5_K", fallback="error", file_type="Q5_K_M"))
    assert [what for _, what, _, _ in found] == [
        "default: Q4_K → Q5_K",
        "fallback: chain → error",
        "file_type: none → Q5_K_M",
    ]


def test_what_decides_may_say_more_than_the_line() -> None:
    old, new = recipe(), recipe(rule("attn_v", "", choose=("Q6_K", "Q5_K"), line=4))
    decided = Decided(tensors={"recipe.yaml:4 (chosen)": 3, "recipe.yaml:40": 5})
    found = rule_changes(old, new, Decided(), decided)
    assert [(c.what, c.decides) for c in found] == [("attn_v: choose Q6_K, Q5_K", 3)]


def test_a_narrower_rule_is_not_idle() -> None:
    """It decides what it decided before: without it, that would change."""
    old, new = recipe(rule("attn_v", "Q6_K", line=3)), recipe(rule("attn_v", "Q6_K", layers="0", line=3))
    before, after = (
        Decided(tensors={"recipe.yaml:3": 4}, changed={"recipe.yaml:3": 3}),
        Decided(tensors={"recipe.yaml:3": 1}),
    )
    found = rule_changes(old, new, before, after)
    assert [(c.kind, c.decides, c.changes, c.idle) for c in found] == [
        ("added", 1, 0, False),
        ("removed", 4, 3, False),
    ]
