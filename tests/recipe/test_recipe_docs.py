"""The recipe pages of the documentation name the whole language, and their recipes work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quantrecipe.model.open_model import open_model
from quantrecipe.plan.trace import trace
from quantrecipe.recipe.budget import BUDGET_KEYS, KV_TYPES, VRAM_KEYS
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.metadata import METADATA_TYPES
from quantrecipe.recipe.reading.recipe_part import IMPORTANCE_KEYS, RECIPE_KEYS, UNCOVERED
from quantrecipe.recipe.reading.rule_items import KEEP_KEYS, RULE_KEYS
from quantrecipe.recipe.reading.value_slots import FALLBACK_POLICIES
from quantrecipe.recipe.reading.variable_declarations import VARIABLE_KEYS
from quantrecipe.recipe.reading.variables import VARIABLE_TYPES
from quantrecipe.recipe.target import DEVICES, ENGINES, TARGET_KEYS
from quantrecipe.recipe.terms.fact_kinds import FACTS
from quantrecipe.registry import Registry

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs/recipe-reference.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs/first-recipe.md").read_text(encoding="utf-8")
LAYER_FORMS = ("7", "0-3", "first 4", "last 4", "first 1/8", "last 1/8", "every 3 from 2")
WORDS = (
    *RECIPE_KEYS,
    *RULE_KEYS,
    *KEEP_KEYS,
    *IMPORTANCE_KEYS,
    *UNCOVERED,
    *FALLBACK_POLICIES,
    *METADATA_TYPES,
    *TARGET_KEYS,
    *ENGINES,
    *DEVICES,
    *BUDGET_KEYS,
    *VRAM_KEYS,
    *KV_TYPES,
    *VARIABLE_KEYS,
    *VARIABLE_TYPES,
)


@pytest.mark.parametrize("word", sorted({*WORDS, *FACTS, *LAYER_FORMS, "head", "keep", "regex:", "required"}))
def test_the_reference_names_every_word_of_the_language(word: str) -> None:
    assert re.search(rf"`[^`\n]*{re.escape(word)}[^`\n]*`", REFERENCE)


def test_the_reference_lists_the_shipped_recipes() -> None:
    for path in (ROOT / "recipes").rglob("*.yaml"):
        assert f"`{path.stem}`" in REFERENCE


def blocks(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize("block", blocks(REFERENCE), ids=lambda block: block.split(":")[0][:20])
def test_examples_of_the_reference_load(block: str, registry: Registry) -> None:
    text = block if "quantrecipe: 1" in block else "quantrecipe: 1\n" + block
    load_recipe_text(text, registry=registry)


@pytest.mark.parametrize("block", blocks(TUTORIAL), ids=["one", "two"])
def test_recipes_of_the_tutorial_work_on_the_example_model(block: str, registry: Registry) -> None:
    recipe = load_recipe_text(block, file="my-model.yaml", registry=registry)
    model = open_model(ROOT / "examples/tiny-code")
    decisions = {d.tensor.name: d for d in trace(recipe, model).decisions}
    assert decisions["token_embd.weight"].type == "Q8_0"
    assert decisions["token_embd.weight"].because == "my-model.yaml:6"
    active = {d.because for d in decisions.values()}
    assert all(str(rule.origin) in active for rule in recipe.rules if rule.own and not rule.optional)


def test_the_line_of_the_tutorials_mistake_is_right() -> None:
    assert blocks(TUTORIAL)[1].splitlines()[8].strip() == "- tensors: attn_v"
    assert "my-model.yaml:9: no tensor of this model is named by 'attn_vv'" in TUTORIAL
