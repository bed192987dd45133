"""What differs in the text of two recipes."""

from __future__ import annotations

from support.recipes import recipe, rule

from quantrecipe.plan.review.rule_changes import Decided, rule_changes
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry


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


WHOLE = """\
quantrecipe: 1
name: whole
fallback: error
file_type: Q4_K_M
default: Q4_K
prune: 1-2
importance:
  required: true
  uncovered: error
  include: [attn, ffn]
  exclude: [gate]
metadata: {general.name: Mine, x.count: 3}
target: {engine: llama.cpp, build: b1500, device: cuda}
budget: {size: 2GB, bpw: 4.5, vram: {total: 8GB, context: 512}, ties: [[attn_q, attn_k], [ffn_up]]}
keep:
  - {tensors: [ssm_a, ssm_b], when: "arch == 'mamba'"}
  - {tensors: ffn_gate_inp}
"""


def settings_changed(old: str, new: str, registry: Registry) -> list[str]:
    recipes = [load_recipe_text(text, registry=registry) for text in (old, new)]
    return [it.what for it in rule_changes(*recipes, Decided(), Decided()) if it.kind == "setting"]


def test_every_setting_is_told() -> None:
    registry = load_registry(plugins=False)
    bare = "quantrecipe: 1\nname: bare\nkeep: []\n"
    found = settings_changed(bare, WHOLE, registry)
    assert found == [
        "default: none → Q4_K",
        "fallback: chain → error",
        "file_type: none → Q4_K_M",
        "importance: uncovered: warn → error",
        "importance: required: none → yes",
        "importance: include: none → attn, ffn",
        "importance: exclude: none → gate",
        "prune: none → 1-2",
        "protect: none → ssm_a, ssm_b when arch == 'mamba'; ffn_gate_inp",
        "metadata: none → general.name=Mine, x.count=3",
        "target: none → llama.cpp b1500 cuda",
        "budget: none → size 2000000000, bpw 4.5, "
        "vram (total 8589934592, context 512, kv f16, experts gpu, ubatch 512), ties attn_q+attn_k ffn_up",
    ]
    assert settings_changed(WHOLE, WHOLE.replace("name: whole", "name: other"), registry) == []
    assert [line.split(": ")[0] for line in settings_changed(WHOLE, bare, registry)] == [
        line.split(": ")[0] for line in found
    ]


def test_types_that_importance_is_required_for() -> None:
    registry = load_registry(plugins=False)
    old = "quantrecipe: 1\nname: x\nimportance: {required: true}\n"
    new = "quantrecipe: 1\nname: x\nimportance: {required: [Q2_K, Q3_K]}\n"
    assert settings_changed(old, new, registry) == ["importance: required: yes → Q2_K, Q3_K"]
