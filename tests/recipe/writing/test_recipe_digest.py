"""The flattened text of a recipe loads again to the same meaning, and the digest is of the meaning alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.examples import sampled

from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.registry import Registry

SHIPPED = sorted((Path(__file__).parents[3] / "recipes").rglob("*.yaml"))

ODD = r"""
quantrecipe: 1
name: "odd \"name\": {a}"
summary: "two\nlines, a tab\t, \u2028, \x7f, ünïcödé 😀 # no comment"
fallback: F16
importance: {file: "../a b/imatrix: 1.gguf", uncovered: plain}
metadata:
  "true": "yes"
  a.text: "012"
  a.big: 18446744073709551615
  a.small: -3
  a.share: 0.1
  a.tiny: {type: f64, value: 1e-300}
  a.flags: [true, false]
  a.none: {type: u16, value: []}
  a.empty: ""
  a.list: {type: i8, value: [-1, 2]}
rules:
  - tensors: ["regex:\\.(a|b)\\.weight$", "{x,y{1,2}}_?[!a-c]*"]
    when: arch in ["it's", 'said "so"'] and rank < 3
    layers: last 1/8,0
    type: keep
    why: "- not: a list"
keep: []
"""


def digest(text: str, registry: Registry, **more: str) -> str:
    return load_recipe_text("quantrecipe: 1\n" + text, registry=registry, **more).digest


@pytest.mark.parametrize("path", sampled(SHIPPED), ids=lambda path: path.stem)
def test_a_shipped_recipe_survives_being_flattened(path: Path, registry: Registry) -> None:
    recipe = load_recipe(path, registry=registry)
    again = load_recipe_text(recipe.text, registry=registry)
    assert "extends:" not in recipe.text
    assert again.digest == recipe.digest
    assert (again.name, again.summary, again.file_type) == (recipe.name, recipe.summary, recipe.file_type)
    assert [rule.why for rule in again.rules] == [rule.why for rule in recipe.rules]


def test_odd_texts_and_values_survive_being_flattened(registry: Registry) -> None:
    recipe = load_recipe_text(ODD, registry=registry)
    again = load_recipe_text(recipe.text, registry=registry)
    assert again.digest == recipe.digest
    assert again.metadata == recipe.metadata
    assert again.importance == recipe.importance
    assert (again.name, again.summary) == (recipe.name, recipe.summary)
    assert [rule.tensors for rule in again.rules] == [rule.tensors for rule in recipe.rules]
    assert recipe.text.isascii() or "😀" in recipe.text
    assert "\x7f" not in recipe.text


def test_inherited_rules_stay_inherited(registry: Registry) -> None:
    recipe = load_recipe_text(
        "quantrecipe: 1\nextends: llama.cpp/Q4_K_M\nrules: [{tensors: a, type: F16}]", registry=registry
    )
    again = load_recipe_text(recipe.text, registry=registry)
    assert [rule.own for rule in again.rules] == [True] + [False] * (len(recipe.rules) - 1)
    assert [rule.optional for rule in again.rules] == [rule.optional for rule in recipe.rules]


def test_the_text_holds_no_path_of_this_machine(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "quantrecipe: 1\nrules: [{tensors: a, type: F16}]\nimportance: {file: m.gguf}"
    )
    (tmp_path / "child.yaml").write_text("quantrecipe: 1\nextends: base.yaml")
    recipe = load_recipe(tmp_path / "child.yaml", registry=registry)
    assert str(tmp_path) not in recipe.text
    assert "# base.yaml:2" in recipe.text
    assert '"file": "m.gguf"' in recipe.text


BASE = "default: Q4_K\nrules:\n  - {tensors: attn_v, type: Q6_K, when: rank < 3, layers: 'first 4, 7'}\n"


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\n" + BASE,
        "name: other\nsummary: other\n" + BASE,
        'rules:\n- type: "Q6_K"\n  why: x\n  tensors: [attn_v]\n  when: (rank<3)\n  layers: first  4,7\n'
        "  optional: true\ndefault: Q4_K\n",
        "importance: {uncovered: warn, file: here.gguf}\n" + BASE,
        "fallback: chain\n" + BASE,
    ],
    ids=["comment", "names", "layout", "importance file", "spelt-out default"],
)
def test_the_digest_ignores_what_changes_no_weight(text: str, registry: Registry) -> None:
    assert digest(text, registry, file="elsewhere.yaml") == digest(BASE, registry)


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace("Q6_K", "Q8_0"),
        BASE.replace("attn_v", "attn_k"),
        BASE.replace("rank < 3", "rank < 4"),
        BASE.replace("first 4", "first 5"),
        BASE.replace("Q4_K", "Q5_K"),
        BASE + "fallback: error",
        BASE + "keep: []",
        BASE + "metadata: {a: 1}",
        BASE + "file_type: Q4_K_M",
        BASE + "importance: required",
        BASE + "  - {tensors: attn_k, type: F16}",
    ],
)
def test_the_digest_changes_with_the_meaning(text: str, registry: Registry) -> None:
    assert digest(text, registry) != digest(BASE, registry)


def test_the_digest_is_the_same_for_ever(registry: Registry) -> None:
    """Recorded: files that were made earlier carry it."""
    rules = "rules: [{tensors: '{a,b}*', type: Q6_K, when: rank < count//8}]"
    recipe = f"default: Q4_K\n{rules}\nkeep: []\nmetadata: {{a: 1}}"
    assert digest(recipe, registry) == "942b85c81323938e919e52f2d69a35e9"


@pytest.mark.parametrize(
    "importance",
    [
        "{include: [blk.0.]}",
        "{exclude: [blk.0.]}",
        "{uncovered: error}",
        "{uncovered: plain}",
        "required",
        "{file: m.gguf}",
    ],
)
def test_what_is_said_of_importance_is_part_of_the_meaning(importance: str, registry: Registry) -> None:
    plain = "name: a\nrules: [{tensors: attn_v, type: Q8_0}]\n"
    recipe = load_recipe_text(f"quantrecipe: 1\n{plain}importance: {importance}\n", registry=registry)
    if importance != "{file: m.gguf}":  # a file is another place to find it, not another meaning
        assert recipe.digest != digest(plain, registry)
    again = load_recipe_text(recipe.text, registry=registry)
    assert again.digest == recipe.digest
    assert (again.importance.include, again.importance.exclude) == (
        recipe.importance.include,
        recipe.importance.exclude,
    )
    assert (again.importance.uncovered, again.importance.demand) == (
        recipe.importance.uncovered,
        recipe.importance.demand,
    )
