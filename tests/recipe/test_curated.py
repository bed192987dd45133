"""The curated recipes: clean, right for every kind of model, and as large as the README says."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from support.examples import sampled
from support.linting import REGISTRY, TARGETS, reference

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance.coverage import assumed_importance
from quantrecipe.lint import lint
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.model.reference_models import reference_models
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
LADDER = [f"ud-q{bits}-k-xl" for bits in range(2, 7)]
DENSE, MIXTURE, LATENT, HYBRID = (
    f"shapes/{name}"
    for name in ("meta-llama-3.1-8b-instruct", "qwen3-30b-a3b", "deepseek-v3.1", "qwen3.6-27b")
)
README = (ROOT / "recipes/README.md").read_text(encoding="utf-8")
EVIDENCE = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "recipes/evidence").glob("*.md"))
ROW = re.compile(r"^\| \[([\w-]+)\]\(([\w-]+)\.yaml\) \| (.+?) \| ([\d. |]+) \|$", re.MULTILINE)


@cache
def opened(model: str) -> Model:
    return open_model(model, registry=REGISTRY)


@cache
def planned(recipe: str, model: str, **settings: str) -> Plan:
    loaded = load_recipe(f"quantrecipe/{recipe}", registry=REGISTRY, settings=settings)
    importance = assumed_importance(opened(model).tensors)
    return make_plan(loaded, opened(model), registry=REGISTRY, importance=importance)


def bits(plan: Plan, role: str, layer: int | None = None) -> float:
    """Bits per weight of a role's types, the fewest of any layer."""
    found = [
        REGISTRY.formats[a.type].spec.bits_per_weight
        for a in plan.assignments
        if a.tensor.role == role and layer in (None, a.tensor.layer)
    ]
    assert found, role
    return min(found)


@pytest.mark.parametrize("name", sampled(RECIPES, 2))
def test_strict_review_finds_nothing_on_any_reference_model(name: str) -> None:
    assert reference_models()
    models = reference(*reference_models())
    checked = lint(f"quantrecipe/{name}", registry=REGISTRY, targets=TARGETS, models=models, strict=True)
    assert [it.problem.what for it in checked.findings] == []
    assert len(checked.checked) == len(models)


@pytest.mark.parametrize("name", sampled(RECIPES, 2))
def test_it_is_in_the_readme_and_has_evidence(name: str) -> None:
    assert f"({name}.yaml)" in README
    assert re.search(rf"\b{name}\b", EVIDENCE)


@pytest.mark.slow
def test_the_sizes_in_the_readme_are_true() -> None:
    head = next(line for line in README.splitlines() if line.startswith("| recipe | for |"))
    models = [f"shapes/{name.strip()}" for name in head.split("|")[3:-1]]
    assert models == [DENSE, MIXTURE, LATENT, HYBRID]
    rows = ROW.findall(README)
    assert sorted(row[0] for row in rows) == RECIPES
    for name, file, _, sizes in rows:
        assert name == file
        found = [f"{planned(name, model).bits_per_weight:.2f}" for model in models]
        assert found == [size.strip() for size in sizes.split("|")], name


@pytest.mark.parametrize("name", sampled(RECIPES, 2))
def test_the_sizes_in_the_summary_are_true(name: str) -> None:
    summary = load_recipe(f"quantrecipe/{name}", registry=REGISTRY).summary
    said = re.findall(r"([\d.]+) (?:bits per weight )?on ([\w. ]+)", summary)
    assert len(said) == 2, summary
    names = {"Llama 3.1 8B": DENSE, "Qwen3 30B A3B": MIXTURE, "DeepSeek V3.1": LATENT}
    for size, model in said:
        assert f"{planned(name, names[model]).bits_per_weight:.1f}" == size, (name, model)


@pytest.mark.parametrize("model", [DENSE, MIXTURE, LATENT, HYBRID])
def test_each_rung_of_the_ladder_is_larger_than_the_one_below(model: str) -> None:
    sizes = [planned(name, model).nbytes for name in LADDER]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("name", sampled(RECIPES, 2))
def test_what_is_sensitive_for_its_size_never_has_fewer_bits(name: str) -> None:
    dense = planned(name, DENSE)
    assert bits(dense, "attn_v") >= bits(dense, "attn_q") >= bits(dense, "ffn_up")
    assert bits(dense, "ffn_down") >= bits(dense, "ffn_up")
    assert bits(dense, "output") >= 5.5
    assert bits(dense, "ffn_up", layer=31) > bits(dense, "ffn_up", layer=16)


@pytest.mark.parametrize("name", sampled(RECIPES, 2))
def test_what_every_token_passes_has_more_bits_than_the_experts(name: str) -> None:
    plan = planned(name, LATENT)
    for role in ("attn_q_b", "attn_output", "ffn_down_shexp"):
        assert bits(plan, role) >= 6
    assert bits(plan, "token_embd") == bits(plan, "output") >= 5.5
    assert bits(plan, "attn_kv_a_mqa") == bits(plan, "attn_k_b") == 8.5
    assert bits(plan, "ffn_down", layer=0) >= 6
    assert bits(plan, "ffn_down_exps") >= bits(plan, "ffn_gate_exps")
    assert bits(plan, "ffn_down_exps", layer=3) > bits(plan, "ffn_up_exps", layer=30)
    assert {a.type for a in plan.assignments if a.tensor.role == "ffn_gate_inp"} == {"F32"}


@pytest.mark.parametrize("name", sampled(RECIPES, 2))
def test_a_recurrent_state_has_four_bits_or_more(name: str) -> None:
    assert bits(planned(name, HYBRID), "ssm_out") >= 4.25


def test_low_bit_recipes_demand_importance() -> None:
    needy = {
        name for name in RECIPES if load_recipe(f"quantrecipe/{name}", registry=REGISTRY).importance.required
    }
    assert needy == {"ud-q2-k-xl", "ud-q3-k-xl", "moe-low-bit"}


def test_a_small_vocabulary_is_kept_like_the_head() -> None:
    assert bits(planned("mixed", DENSE), "token_embd") == 4.5  # 128,256 tokens
    assert bits(planned("mixed", "shapes/mistral-7b-instruct-v0.3"), "token_embd") > 6


def test_layers_that_calibration_never_runs_don_t_get_low_bits() -> None:
    """The reference models were written down without them: DeepSeek's, with its last layer taken for one."""
    model = opened(LATENT)
    key = "deepseek2.nextn_predict_layers"
    model = replace(model, metadata={**model.metadata, key: GGUFValue.of(ValueType.UINT32, 1)})
    loaded = load_recipe("quantrecipe/moe-low-bit", registry=REGISTRY)
    plan = make_plan(loaded, model, registry=REGISTRY, importance=assumed_importance(model.tensors))
    assert bits(plan, "ffn_up_exps", layer=60) == 5.5
    assert bits(plan, "ffn_up_exps", layer=59) < 3


def test_gpt_oss_keeps_the_type_that_its_experts_were_trained_in() -> None:
    plan = planned("ud-q5-k-xl", "shapes/gpt-oss-120b")
    assert {a.type for a in plan.assignments if a.tensor.role == "ffn_up_exps"} == {"MXFP4"}


def test_experts_can_be_set() -> None:
    smaller = planned("moe-low-bit", MIXTURE, experts="IQ1_M", experts_down="IQ2_XXS")
    assert smaller.nbytes < planned("moe-low-bit", MIXTURE).nbytes
