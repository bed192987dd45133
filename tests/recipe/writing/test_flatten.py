"""What `flatten` prints is the same recipe: it loads again, means the same, and plans identically."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples, sampled

from quantrecipe.importance.coverage import assumed_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.recipe.writing.flatten import flat_recipe, flat_text
from quantrecipe.recipe.writing.recipe_yaml import quoted
from quantrecipe.registry import Registry

ROOT = Path(__file__).parents[3]
SHIPPED = sorted((ROOT / "recipes").rglob("*.yaml"))
SHAPES = [
    Path("shapes/qwen3-0.6b"),
    *(
        ROOT / "tests/data/shapes/zoo" / f"{name}.json"
        for name in ("mixtral-8x", "falcon-32", "deepseek2-mla")
    ),
]


@pytest.fixture(scope="module")
def models() -> list[Model]:
    return [open_model(path) for path in SHAPES]


def types(recipe: Recipe, model: Model, registry: Registry) -> list[tuple[str, str, int]]:
    """Of each tensor, with importance that covers all of them."""
    importance = assumed_importance(model.tensors)
    plan = make_plan(recipe, model, registry=registry, importance=importance, provenance=False)
    return [(a.tensor.name, a.type, a.nbytes) for a in plan.assignments]


@pytest.mark.parametrize("path", sampled(SHIPPED), ids=lambda path: path.stem)
def test_a_shipped_recipe_means_the_same(path: Path, registry: Registry) -> None:
    recipe = load_recipe(path, registry=registry)
    text = flat_text(recipe)
    again = load_recipe_text(text, registry=registry)
    assert again.digest == recipe.digest
    assert "extends:" not in text
    assert [rule.own for rule in again.rules] == [rule.own for rule in recipe.rules]
    assert [rule.why for rule in again.rules] == [rule.why for rule in recipe.rules]
    assert (again.name, again.summary) == (recipe.name, recipe.summary)
    assert flat_text(again).count("\n") == text.count("\n") or recipe.variables


@pytest.mark.parametrize("path", sampled(SHIPPED), ids=lambda path: path.stem)
def test_it_plans_identically(path: Path, models: list[Model], registry: Registry) -> None:
    recipe = load_recipe(path, registry=registry)
    again = load_recipe_text(flat_text(recipe), registry=registry)
    for model in models:
        assert types(again, model, registry) == types(recipe, model, registry)


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(f"quantrecipe: 1\n{text}")


def test_every_rule_has_its_origin_and_the_way_it_came(registry: Registry, tmp_path: Path) -> None:
    write(
        tmp_path,
        a="extends: b.yaml\nrules: [{tensors: x, type: F16}]",
        b="extends:\n  - pure/Q4_K\n  - c.yaml\nrules: [{tensors: y, type: F16}]",
        c="rules:\n  - {tensors: z, type: F16}",
    )
    recipe = load_recipe(tmp_path / "a.yaml", registry=registry)
    at = tmp_path.as_posix()
    assert [(it["origin"], it["through"]) for it in flat_recipe(recipe)["rules"]] == [
        (f"{at}/a.yaml:3", []),
        (f"{at}/b.yaml:5", [f"{at}/a.yaml:2"]),
        (f"{at}/c.yaml:3", [f"{at}/a.yaml:2", f"{at}/b.yaml:4"]),
    ]
    text = flat_text(recipe)
    assert f"  # {at}/c.yaml:3, by extends in {at}/a.yaml:2 → {at}/b.yaml:4\n  - tensors: z" in text
    assert "default: Q4_K  # pure/Q4_K:" in text


def test_names_with_one_meaning_stay_and_others_are_written_out(registry: Registry, tmp_path: Path) -> None:
    write(
        tmp_path,
        child="extends: base.yaml\ngroups: {v: mine}\nfacts: {few: rank < 9}\n"
        "rules: [{tensors: [group:v, head], when: few and some, type: F16}]",
        base="groups: {v: attn_v, k: [attn_k, attn_kv_b]}\n"
        "facts: {few: rank < 2, some: layer > 1, both: few or some}\n"
        "rules: [{tensors: [group:v, x, group:k], when: few, type: Q8_0}, "
        "{tensors: group:k, when: some or n_gqa > 1, type: F16}, {tensors: y, when: both, type: F16}]",
    )
    recipe = load_recipe(tmp_path / "child.yaml", registry=registry)
    flat = flat_recipe(recipe)
    assert flat["groups"] == {"k": ["attn_k", "attn_kv_b"]}
    assert list(flat["facts"]) == ["some", "both"]
    assert [(rule["tensors"], rule["when"]) for rule in flat["rules"]] == [
        (["mine", "head"], "(rank < 9) and (layer > 1)"),
        (["attn_v", "x", "group:k"], "(rank < 2)"),
        ("group:k", "some or n_gqa > 1"),
        ("y", "((rank < 2) or (layer > 1))"),
    ]
    assert load_recipe_text(flat_text(recipe), registry=registry).digest == recipe.digest


def test_variables_are_filled_in_and_told(registry: Registry) -> None:
    recipe = load_recipe_text(
        "quantrecipe: 1\nvariables: {e: IQ3_S, n: 4}\n"
        "rules: [{tensors: a, type: $e, layers: first $n}, {tensors: b, choose: [$e, F16]}]",
        file="r.yaml",
        registry=registry,
        settings={"e": "Q2_K"},
    )
    text = flat_text(recipe)
    assert text.startswith(
        "# r.yaml, with all that it extends; the first rule that matches a tensor decides\n"
        "# $e is Q2_K, set instead of IQ3_S\n# $n is 4\nquantrecipe: 1\n"
    )
    again = load_recipe_text(text, registry=registry)
    assert again.digest == recipe.digest
    assert "choose: [Q2_K, F16]" in text and "layers: first 4" in text


TEXTS = st.text(
    alphabet=st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20
).filter(str.strip)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=examples(60)
)
@given(why=TEXTS, summary=TEXTS, value=TEXTS, name=TEXTS.filter(lambda text: text.isprintable()))
def test_odd_texts_survive(registry: Registry, why: str, summary: str, value: str, name: str) -> None:
    text = f"""
quantrecipe: 1
name: {quoted(name)}
summary: {quoted(summary)}
metadata: {{a.b: {quoted(value)}, c: [{quoted(value)}]}}
importance: {{include: [{quoted(value)}], uncovered: plain}}
rules: [{{tensors: ['regex:a|b\\.c{{1,2}}$', '*_{{x,y}}'], type: F16, why: {quoted(why)}}}]
keep: []
"""
    recipe = load_recipe_text(text, registry=registry)
    again = load_recipe_text(flat_text(recipe), registry=registry)
    assert again.digest == recipe.digest
    assert (again.name, again.summary, again.rules[0].why) == (name, summary, why)
    assert again.importance == recipe.importance


def test_all_that_a_recipe_says_is_there(registry: Registry) -> None:
    recipe = load_recipe_text(
        "quantrecipe: 1\nrequires: quantrecipe>=0.0.1\ntarget: {engine: llama.cpp, build: 7000}\nprune: last 2\n"
        "budget: {size: 5GiB, vram: 8G, ties: [[a, b]]}\nfile_type: Q4_K_M\nfallback: error\nimportance: required\n"
        "rules: [{tensors: a, type: F16, fallback: Q8_0, optional: true, layers: 3}]\nkeep: []\n",
        registry=registry,
    )
    again = load_recipe_text(flat_text(recipe), registry=registry)
    for key in ("digest", "requires", "file_type", "fallback", "importance", "prune", "keep"):
        assert getattr(again, key) == getattr(recipe, key), key
    assert again.budget is not None and recipe.budget is not None and again.target is not None
    assert (again.budget.size, again.budget.vram, again.budget.ties) == (
        recipe.budget.size,
        recipe.budget.vram,
        recipe.budget.ties,
    )
    assert again.target.build == "b7000"
