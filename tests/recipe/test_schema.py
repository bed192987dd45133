"""The JSON Schema that editors use, and the loader, agree on what a recipe is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.budget import BUDGET_KEYS, EXPERT_PLACES, KV_TYPES, VRAM_KEYS
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.metadata import METADATA_TYPES
from quantrecipe.recipe.reading.recipe_part import IMPORTANCE_KEYS, RECIPE_KEYS, UNCOVERED
from quantrecipe.recipe.reading.rule_items import KEEP_KEYS, RULE_KEYS
from quantrecipe.recipe.reading.variable_declarations import VARIABLE_KEYS
from quantrecipe.recipe.reading.variables import VARIABLE_TYPES
from quantrecipe.recipe.target import DEVICES, ENGINES, TARGET_KEYS
from quantrecipe.recipe.terms.fact_kinds import FACTS
from quantrecipe.registry import Registry
from quantrecipe.units import FILE_PATTERN, MEMORY_PATTERN, TOKENS_PATTERN

SCHEMA: dict[str, Any] = json.loads((files("quantrecipe.recipe") / "schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SHIPPED = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))


def properties(*path: str) -> dict[str, Any]:
    node: Any = SCHEMA["properties"]
    for key in path:
        node = node[int(key)] if isinstance(node, list) else node[key]
    return dict(node["properties"])


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_loader_knows_the_keys_of_the_schema() -> None:
    assert tuple(SCHEMA["properties"]) == RECIPE_KEYS
    assert tuple(properties("rules", "items")) == RULE_KEYS
    assert tuple(properties("protect", "items", "oneOf", "1")) == KEEP_KEYS
    importance = properties("importance", "oneOf", "1")
    assert tuple(importance) == IMPORTANCE_KEYS
    assert tuple(importance["uncovered"]["enum"]) == UNCOVERED
    typed = properties("metadata", "additionalProperties", "oneOf", "2")
    assert typed["type"]["enum"] == list(METADATA_TYPES)
    target = properties("target")
    assert tuple(target) == TARGET_KEYS
    assert (tuple(target["engine"]["enum"]), tuple(target["device"]["enum"])) == (ENGINES, DEVICES)
    vram = properties("budget")["vram"]["oneOf"][1]["properties"]
    assert (tuple(properties("budget")), tuple(vram)) == (BUDGET_KEYS, VRAM_KEYS)
    assert tuple(vram["kv"]["oneOf"][0]["enum"]) == KV_TYPES
    assert tuple(vram["experts"]["enum"]) == EXPERT_PLACES
    for name, pattern in (
        ("memoryText", MEMORY_PATTERN),
        ("fileSize", FILE_PATTERN),
        ("tokens", TOKENS_PATTERN),
    ):
        assert SCHEMA["$defs"][name]["oneOf"][0]["pattern"] == f"^{pattern}$"
    variable = properties("variables", "additionalProperties", "oneOf", "1")
    assert tuple(variable) == VARIABLE_KEYS
    assert tuple(variable["type"]["enum"]) == VARIABLE_TYPES


def nodes(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, value in node.get("properties", {}).items():
            yield name, value
        for value in node.values():
            yield from nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value)


def test_every_key_has_a_hover_text() -> None:
    assert [name for name, node in nodes(SCHEMA) if not node.get("description") and "const" not in node] == []


def test_the_hover_text_of_when_names_every_fact() -> None:
    text = properties("rules", "items")["when"]["description"]
    assert [fact for fact in FACTS if fact not in text] == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid_and_name_the_schema(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    VALIDATOR.validate(yaml.safe_load(text))
    reference = text.splitlines()[0].partition("$schema=")[2]
    assert (path.parent / reference).resolve() == Path(
        str(files("quantrecipe.recipe") / "schema.json")
    ).resolve()


ODD = st.sampled_from([None, True, 3, 0.5, "", " ", "x", [], {}, ["x"], [""], [3], {"x": 1}])


def maybe(key: str, good: Any) -> st.SearchStrategy[dict[str, Any]]:
    """The key with a good value, with an odd one, or not at all."""
    return st.one_of(st.just({}), st.just({key: good}), st.just({key: good}), ODD.map(lambda odd: {key: odd}))


def joined(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {k: v for part in found for k, v in part.items()})


RULES = joined(
    st.just({"tensors": ["attn_v", "*"], "type": "Q6_K"}),
    maybe("tensors", "attn_v"),
    maybe("layers", 3),
    maybe("when", "rank < 3"),
    maybe("type", "keep"),
    maybe("options", {}),
    maybe("fallback", "chain"),
    maybe("why", "because"),
    maybe("optional", True),
    maybe("inherited", True),
    maybe("choose", ["Q4_K", "Q5_K"]),
    maybe("choose", ["Q4_K", "Q4_K"]),
    maybe("typo", 1),
)
RECIPES = joined(
    st.just({"quantrecipe": 1}),
    maybe("quantrecipe", 1),
    maybe("name", "n"),
    maybe("summary", "s"),
    maybe("extends", ["pure/Q4_K"]),
    maybe("file_type", "Q4_K_M"),
    maybe("default", "Q4_K"),
    maybe("fallback", "error"),
    maybe("importance", {"file": "x", "uncovered": "plain", "required": False}),
    maybe("metadata", {"a": {"type": "u8", "value": 1}, "b": ["x"], "c": 1}),
    maybe("requires", ["quantrecipe>=0.1"]),
    maybe("target", {"engine": "ollama", "build": "0.12.3", "device": "metal"}),
    maybe("target", {"engine": "llama.cpp", "build": 7000}),
    maybe("budget", {"bpw": 4, "size": "5.2GiB", "ties": [["attn_q", "attn_k"], "*_exps"]}),
    maybe(
        "budget", {"vram": {"total": "12G", "context": 32768, "kv": "q8_0", "layers": 3, "experts": "cpu"}}
    ),
    maybe("budget", {"vram": "12G", "ram": 3, "active": "1GB"}),
    maybe("budget", {"kld": 0.01, "size": "5GB"}),
    maybe("budget", {"vram": {"total": 8, "context": "8k"}, "ram": 7.5, "size": 5_200_000_000}),
    maybe("budget", {"vram": 8, "ram": 12282}),
    maybe("budget", {"size": 5}),
    maybe("budget", {"active": "5"}),
    maybe("budget", {"vram": {"total": "8Gi", "context": 8}}),
    maybe("budget", {"vram": {"total": 24_000_000_000, "context": "32,768 tokens"}}),
    maybe("variables", {"a": "Q4_K", "b": 3, "c": True}),
    maybe("variables", {"early": {"type": "layers", "default": "first 4", "why": "x"}}),
    st.lists(RULES, max_size=2).map(lambda rules: {"rules": rules}),
    maybe("protect", [{"tensors": "a", "why": "b"}]),
    maybe("keep", [{"tensors": "a", "when": "rows < 3", "why": "b"}, "llama.cpp/kept"]),
)
# What only the loader can know: whether formats, recipes and file types exist, and what options a format has.
BEYOND_THE_SCHEMA = (
    *(
        "there is no format",
        "isn't known",
        "has no option",
        "neither a recipe file",
        "is a text",
        "has a fact",
    ),
    *("there is no fact", "a kept tensor has no options", "there is no recipe", "isn't understood"),
    "is never used",
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=examples(200)
)
@given(RECIPES)
def test_the_loader_accepts_what_the_schema_accepts(registry: Registry, document: dict[str, Any]) -> None:
    try:
        load_recipe_text(json.dumps(document), registry=registry)
        complaints = []
    except RecipeError as error:
        complaints = [problem.what for problem in error.problems]
    valid = VALIDATOR.is_valid(document)
    structural = [
        what
        for what in complaints
        if what.startswith("importance: ") or not any(words in what for words in BEYOND_THE_SCHEMA)
    ]
    assert valid == (not structural), (
        complaints,
        [error.message for error in VALIDATOR.iter_errors(document)],
    )
