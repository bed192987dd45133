"""explain: what is said of each rule, and of what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.recipes import recipe, rule

from quantrecipe.errors import PlanError
from quantrecipe.importance.coverage import assumed_importance
from quantrecipe.importance.matrix import Importance
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.plain_data import plain
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.resolution import PlanSettings, resolve
from quantrecipe.plan.review.explain import Explanation, explain, find_tensors
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry

ZOO = Path(__file__).parents[2] / "data/shapes/zoo"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def llama() -> Model:
    """A dense model of 32 layers."""
    return open_model(ZOO / "llama-32.json")


@pytest.fixture(scope="module")
def narrow() -> Model:
    """Rows that no K-quant fits."""
    return open_model(ZOO / "columns-1152-and-96.json")


def one(
    recipe_: Recipe,
    model: Model,
    name: str,
    registry: Registry,
    *,
    importance: Importance | None = None,
    plan: Plan | None = None,
    **settings: Any,
) -> Explanation:
    resolution = resolve(recipe_, model, registry, importance, PlanSettings(**settings))
    (found,) = explain(resolution, [name], plan)
    return found


def outcomes(it: Explanation) -> list[str]:
    return [trial.outcome for trial in it.trials]


RULES = recipe(
    rule("attn_k", "Q8_0", line=1),
    rule("attn_*", "Q8_0", line=2, layers="first 4"),
    rule("attn_v", "Q8_0", line=3, when="rank < count//8"),
    rule("attn_v", "Q6_K", line=4, when="n_expert == 0"),
    rule("attn_v", "Q5_K", line=5),
    default="Q4_K",
)


def test_each_rule_says_why_it_matches_or_not(llama: Model, registry: Registry) -> None:
    it = one(RULES, llama, "blk.7.attn_v.weight", registry)
    assert outcomes(it) == ["names another", "other layers", "condition", "decides", "matches"]
    assert [trial.reasons for trial in it.trials] == [
        (),
        ("layer 7 isn't in first 4 of 32",),
        ("rank < count//8: 7 < 4 is false",),
        ("n_expert == 0: 0 == 0 is true",),
        (),
    ]
    assert it.decision.because == "recipe.yaml:4"
    assert it.format is not None and it.format.spec.name == "Q6_K"


def test_a_layer_that_fits_is_told_too(llama: Model, registry: Registry) -> None:
    it = one(RULES, llama, "blk.3.attn_q", registry)
    assert it.trials[1].outcome == "decides"
    assert it.trials[1].reasons == ("layer 3 is in first 4 of 32",)


def test_a_wildcard_leaves_the_kept_list_and_vectors_alone(registry: Registry) -> None:
    model = open_model(ZOO / "mixtral-8x.json")
    wild = recipe(rule("ffn_*", "Q8_0"), default="Q4_K")
    router = one(wild, model, "blk.0.ffn_gate_inp", registry)
    assert outcomes(router) == ["kept"]
    assert router.kept is not None and router.decision.because == "kept.yaml:1 (kept)"
    assert outcomes(one(wild, model, "blk.0.ffn_norm", registry)) == ["no matrix"]
    outright = recipe(rule("ffn_gate_inp", "Q8_0"), default="Q4_K")
    assert outcomes(one(outright, model, "blk.0.ffn_gate_inp", registry)) == ["decides"]


def test_outside_the_blocks_there_are_no_layers(llama: Model, registry: Registry) -> None:
    it = one(recipe(rule("output", "Q8_0", layers="first 4")), llama, "head", registry)
    assert it.trials[0].reasons == ("it stands outside the blocks, and the rule is about layers first 4",)


def test_the_fallback_is_told_step_by_step(narrow: Model, registry: Registry) -> None:
    it = one(recipe(default="IQ2_S", fallback="chain"), narrow, "blk.0.ffn_down", registry)
    assert [step.type for step in it.steps] == ["IQ2_S", "IQ4_NL"]
    assert it.steps[0].misfit == "its 96 columns don't divide into blocks of 256"
    assert it.steps[-1].misfit == ""
    assert it.format is not None and it.format.spec.name == "IQ4_NL"
    it = one(recipe(rule("ffn_down", "Q4_K", fallback="F16")), narrow, "blk.0.ffn_down", registry)
    assert [step.type for step in it.steps] == ["Q4_K", "F16"]


def test_a_fallback_that_is_refused_is_an_error_of_the_tensor(narrow: Model, registry: Registry) -> None:
    it = one(recipe(rule("ffn_down", "Q4_K", fallback="error")), narrow, "blk.0.ffn_down", registry)
    assert it.format is None and it.nbytes is None
    assert [step.type for step in it.steps] == ["Q4_K"]
    assert "fallback: error" in str(it.problems[0])
    assert it.to_json()["type"] is None


def test_importance_is_used_or_there_is_a_reason(llama: Model, registry: Registry) -> None:
    plain = recipe(rule("attn_v", "Q8_0"), rule("attn_k", "keep"), default="Q4_K")
    matrix = assumed_importance([t for t in llama.tensors if t.role != "ffn_up"])
    found = {
        name: one(plain, llama, f"blk.0.{name}", registry, importance=matrix).importance
        for name in ("attn_q", "attn_v", "attn_k", "ffn_up")
    }
    assert found == {
        "attn_q": "used",
        "attn_v": "not used: Q8_0 ignores it",
        "attn_k": "not used: nothing is quantized",
        "ffn_up": "not used: the matrix doesn't cover this tensor",
    }
    assert one(plain, llama, "blk.0.attn_q", registry).importance == (
        "not used: no importance matrix is given"
    )


@pytest.mark.parametrize("name", ["llama.cpp/Q4_K_M", "llama.cpp/IQ2_M", "quantrecipe/code-model"])
@pytest.mark.parametrize("shape", ["llama-32", "mixtral-8x", "columns-1152-and-96", "deepseek2-mla"])
def test_an_explanation_agrees_with_the_plan(name: str, shape: str, registry: Registry) -> None:
    loaded, model = load_recipe(name, registry=registry), open_model(ZOO / f"{shape}.json")
    importance = assumed_importance(model.tensors)
    plan = make_plan(loaded, model, registry=registry, importance=importance)
    resolution = resolve(loaded, model, registry, importance)
    found = explain(resolution, [t.name for t in model.tensors], plan)
    explained = {
        it.tensor.name: (it.format and it.format.spec.name, it.nbytes, it.copied, it.importance == "used")
        for it in found
    }
    planned = {a.tensor.name: (a.type, a.nbytes, a.copied, a.importance) for a in plan.assignments}
    assert explained == planned
    for it in found:
        deciders = [trial.rule for trial in it.trials if trial.outcome == "decides"]
        assert deciders == ([it.decision.rule] if it.decision.rule else [])
        assert it.format is not None and it.steps[-1].type == it.format.spec.name
        assert all(step.misfit for step in it.steps[:-1])


def test_names_roles_patterns_and_the_head(llama: Model) -> None:
    assert [t.name for t in find_tensors(llama, ["head"])] == ["output.weight"]
    assert [t.name for t in find_tensors(llama, ["blk.3.attn_v.weight", "blk.3.attn_v"])] == [
        "blk.3.attn_v.weight"
    ]
    assert len(find_tensors(llama, ["attn_v"])) == 32
    assert len(find_tensors(llama, ["blk.[01].ffn_*"])) == 8


def test_a_name_that_isnt_there(llama: Model) -> None:
    with pytest.raises(PlanError) as caught:
        find_tensors(llama, ["attn_vv", "blk.3.atn_v.weight", "a b", "zzzz"])
    assert [str(problem) for problem in caught.value.problems] == [
        "no tensor of this model is named by 'attn_vv'; did you mean attn_v or attn_q or attn_k?",
        "no tensor of this model is named by 'blk.3.atn_v.weight'; "
        "did you mean blk.3.attn_v or blk.31.attn_v or blk.30.attn_v?",
        "the pattern 'a b' has spaces in it; write several patterns as a list: [attn_q, attn_k]",
        "no tensor of this model is named by 'zzzz'; `quantrecipe inspect MODEL` lists the names",
    ]


def test_a_recipe_that_does_not_plan_is_explained(llama: Model, registry: Registry) -> None:
    idle = recipe(rule("no_such_tensor", "Q8_0"), default="Q4_K")
    with pytest.raises(PlanError):
        make_plan(idle, llama, registry=registry)
    assert outcomes(one(idle, llama, "blk.0.attn_v", registry)) == ["names another"]


def test_json_says_it_all(llama: Model, registry: Registry) -> None:
    loaded = load_recipe_text(
        "quantrecipe: 1\nextends: llama.cpp/Q4_K_M\nrules: [{tensors: attn_q, type: Q8_0, layers: 0, why: x}]",
        file="r.yaml",
        registry=registry,
    )
    it = plain(one(loaded, llama, "blk.0.attn_q", registry))
    assert it["rules"][0] == {
        "origin": "r.yaml:3",
        "through": [],
        "tensors": ["attn_q"],
        "layers": "0",
        "when": None,
        "type": "Q8_0",
        "choose": [],
        "outcome": "decides",
        "reasons": ["layer 0 is in 0 of 32"],
    }
    assert it["rules"][1]["through"] == ["r.yaml:2"]
    assert (it["type"], it["because"], it["why"], it["wanted"]) == ("Q8_0", "r.yaml:3", "x", "Q8_0")
    assert it["nbytes"] == it["shape"][0] * it["shape"][1] // 32 * 34


def test_layers_that_are_left_out(registry: Registry, llama: Model) -> None:
    loaded = load_recipe_text("quantrecipe: 1\ndefault: Q4_K\nprune: 0-3", registry=registry)
    assert len(explain(resolve(loaded, llama, registry), ["attn_v"])) == 28


def test_what_the_optimiser_chose_is_taken_from_the_plan(llama: Model, registry: Registry) -> None:
    loaded = load_recipe_text(
        "quantrecipe: 1\ndefault: Q4_K\nbudget: {bpw: 5}\nrules: [{tensors: 'ffn_*', choose: [Q4_K, Q6_K]}]",
        registry=registry,
    )
    it = one(loaded, llama, "blk.0.ffn_up", registry)
    assert (it.format, it.steps, it.importance) == (None, (), "")
    plan = make_plan(loaded, llama, registry=registry)
    planned = {a.tensor.name: (a.type, a.nbytes) for a in plan.assignments}
    for it in explain(resolve(loaded, llama, registry), ["ffn_*"], plan):
        assert it.format is not None
        assert (it.format.spec.name, it.nbytes) == planned[it.tensor.name]
        if it.decision.rule is not None:
            assert it.trials[0].outcome == "decides"
