"""Plans in other programs' languages: what they say comes back as the same plan, what they can't say is refused."""

from __future__ import annotations

import random
import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from quantrecipe.errors import PlanError
from quantrecipe.exchange.from_commands.custom_q import from_custom_q, from_tool_suite
from quantrecipe.exchange.from_commands.llama_quantize import from_llama_quantize
from quantrecipe.exchange.from_commands.read_command import read_command, read_list_for
from quantrecipe.exchange.to_commands.exported import Exported
from quantrecipe.exchange.to_commands.ik_llama import to_custom_q, to_ik, to_tool_suite
from quantrecipe.exchange.to_commands.llama_quantize import to_llama_quantize, to_tensor_type_file
from quantrecipe.model.model import Model
from quantrecipe.model.shapes import open_shapes
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry

ZOO = Path(__file__).parents[2] / "data/shapes/zoo"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def zoo(name: str) -> Model:
    return open_shapes(ZOO / f"{name}.json")


def planned(text: str, model: Model, registry: Registry) -> tuple[Plan, Recipe]:
    recipe = load_recipe_text(text, registry=registry)
    return make_plan(recipe, model, registry=registry), recipe


def types(plan: Plan) -> dict[str, str]:
    return {a.tensor.name: a.type for a in plan.assignments}


MIX = """
quantrecipe: 1
name: my mix
extends: llama.cpp/Q4_K_M
metadata: {general.author: Ada Lovelace}
rules:
  - {tensors: token_embd, type: Q8_0}
  - {tensors: "attn_{q,k}", layers: first 4, type: Q5_K}
  - {tensors: attn_output, layers: last 2, type: Q6_K}
"""


@pytest.mark.slow
def test_a_command_is_as_short_as_it_can_be(registry: Registry) -> None:
    plan, recipe = planned(MIX, zoo("llama-32"), registry)
    lines = to_llama_quantize(plan, recipe, registry).text.split(" \\\n  ")
    assert lines == [
        "llama-quantize",
        "--override-kv 'general.author=str:Ada Lovelace'",
        r"--tensor-type '^token_embd\.weight$=q8_0'",
        r"--tensor-type '^blk\.[0-3]\.attn_(k|q)\.weight$=q5_k'",
        r"--tensor-type '^blk\.3[0-1]\.attn_output\.weight$=q6_k'",
        "llama-32-BF16.gguf llama-32-my-mix.gguf Q4_K_M\n",
    ]


def test_a_preset_is_its_own_name(registry: Registry) -> None:
    plan, recipe = planned(
        "quantrecipe: 1\nname: IQ4_XS\nextends: llama.cpp/IQ4_XS\n", zoo("mixtral-8x"), registry
    )
    assert to_llama_quantize(plan, recipe, registry).text.endswith("mixtral-8x-IQ4_XS.gguf IQ4_XS\n")


def test_one_type_everywhere_is_pure(registry: Registry) -> None:
    plan, recipe = planned("quantrecipe: 1\nfile_type: Q5_K_S\ndefault: Q5_K\n", zoo("llama-32"), registry)
    text = to_llama_quantize(plan, recipe, registry).text
    assert "--pure" in text
    assert "--tensor-type" not in text


@pytest.mark.slow
def test_floats_with_some_quantized_need_a_quantized_base(registry: Registry) -> None:
    text = "quantrecipe: 1\ndefault: F16\nrules: [{tensors: ffn_down, type: Q8_0}]\n"
    plan, recipe = planned(text, zoo("llama-32"), registry)
    text = to_llama_quantize(plan, recipe, registry).text
    assert text.rstrip().endswith("Q8_0"), "--tensor-type is ignored on F16"
    assert "--override-kv general.file_type=int:1" in text, "but the file says F16, as the plan does"


@pytest.mark.parametrize(
    ("rules", "what"),
    [
        (
            "{tensors: ffn_gate_inp, type: Q8_0}",
            "llama-quantize never quantizes blk.0.ffn_gate_inp.weight, .* Q8_0",
        ),
        (
            "{tensors: blk.*.attn_norm, type: F16}",
            "never quantizes blk.0.attn_norm.weight, .* and 43 more, .* F16",
        ),
        (
            "{tensors: attn_q, type: NVFP4}",
            "keeps no factors beside blk.0.attn_q.weight, .* which NVFP4 needs",
        ),
    ],
)
def test_what_llama_quantize_cannot_be_told_is_refused(rules: str, what: str, registry: Registry) -> None:
    plan, recipe = planned(f"quantrecipe: 1\ndefault: Q4_K\nrules: [{rules}]\n", zoo("qwen3moe-48"), registry)
    with pytest.raises(PlanError, match=what):
        to_llama_quantize(plan, recipe, registry)


def test_pruned_layers_are_refused(registry: Registry) -> None:
    plan, recipe = planned("quantrecipe: 1\ndefault: Q4_K\nprune: '3'\n", zoo("llama-32"), registry)
    with pytest.raises(PlanError, match="prune first"):
        to_llama_quantize(plan, recipe, registry)


def test_importance_that_llama_quantize_demands_is_noted(registry: Registry) -> None:
    plan, recipe = planned("quantrecipe: 1\ndefault: IQ3_XXS\n", zoo("llama-32"), registry)
    notes = to_llama_quantize(plan, recipe, registry).notes
    assert "llama-quantize refuses IQ3_XXS without an importance matrix: give --imatrix" in notes


def test_what_ik_llama_cpp_does_not_have_is_refused(registry: Registry) -> None:
    plan, recipe = planned("quantrecipe: 1\ndefault: TQ2_0\n", zoo("llama-32"), registry)
    with pytest.raises(PlanError, match=r"ik_llama.cpp doesn't have TQ2_0"):
        to_custom_q(plan, recipe)
    plan, recipe = planned("quantrecipe: 1\ndefault: Q4_K\n", zoo("mamba-6"), registry)
    with pytest.raises(PlanError, match=r"ik_llama.cpp never quantizes blk.0.ssm_x.weight"):
        to_custom_q(plan, recipe)
    plan, recipe = planned("quantrecipe: 1\ndefault: F16\n", zoo("llama-32"), registry)
    with pytest.raises(PlanError, match=r"ignores --custom-q"):
        to_ik(plan, recipe)


def test_custom_q_names_everything(registry: Registry) -> None:
    plan, recipe = planned(MIX, zoo("llama-32"), registry)
    text = to_custom_q(plan, recipe).text
    assert text.startswith(r"^output\.weight$=q6_K,^token_embd\.weight$=q8_0,")
    assert text.endswith(",.=q4_K\n")
    words = shlex.split(to_ik(plan, recipe).text.replace("\\\n", " "))
    assert words[words.index("--custom-q") + 1] == text.strip()
    assert words[-1] == "Q4_K_S"


def test_the_tool_suite_gets_a_rule_for_every_tensor(registry: Registry) -> None:
    plan, recipe = planned(MIX, zoo("llama-32"), registry)
    text = to_tool_suite(plan, recipe).text
    assert r"^blk\.[0-9]+\.(attn|ffn)_norm\.weight$=f32" in text
    assert r"^token_embd\.weight$=q8_0" in text


NAMES = ["llama-32", "mixtral-8x", "qwen3moe-48", "columns-1152-and-96", "llama-4-tied", "glm4moe-nextn"]
KINDS = ["Q8_0", "Q6_K", "Q5_K", "Q4_K", "IQ4_XS", "Q4_0", "F16", "Q3_K"]


def some_plan(data: st.DataObject, registry: Registry) -> tuple[Plan, Recipe, Model]:
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    model = zoo(data.draw(st.sampled_from(NAMES)))
    rules = [
        f"- {{tensors: {tensors!r}, layers: {rng.choice(['first 3', 'last 1/8', 'every 2', '0, 2-4'])!r}, "
        f"optional: true, type: {rng.choice(KINDS)}}}"
        for tensors in rng.sample(["attn_v", "ffn_down", "ffn_*", "attn_[kq]", "*_exps"], rng.randrange(1, 4))
    ]
    base = rng.choice(
        ["extends: llama.cpp/Q4_K_M", "extends: llama.cpp/Q3_K_L", "default: Q5_K", "default: IQ4_XS"]
    )
    text = "\n".join(["quantrecipe: 1", base, "rules:", *rules, ""])
    try:
        plan, recipe = planned(text, model, registry)
    except PlanError:  # rules that hide each other
        plan, recipe = planned(f"quantrecipe: 1\n{base}\n", model, registry)
    return plan, recipe, model


@settings(max_examples=examples(5), deadline=None)
@given(data=st.data())
def test_what_goes_to_llama_quantize_comes_back(data: st.DataObject, registry: Registry) -> None:
    plan, recipe, model = some_plan(data, registry)
    command = read_command(to_llama_quantize(plan, recipe, registry).text, Path(), file="exported")
    found = from_llama_quantize(command, registry, model=model, name="back", file="exported")
    assert types(planned(found.text, model, registry)[0]) == types(plan)


@settings(max_examples=examples(4), deadline=None)
@given(data=st.data())
def test_a_tensor_type_file_comes_back(data: st.DataObject, registry: Registry) -> None:
    plan, recipe, model = some_plan(data, registry)
    exported: Exported = to_tensor_type_file(plan, recipe, registry)
    called = exported.notes[0].split()
    command = read_list_for(exported.text, called[-1], file="exported", pure="--pure" in called)
    found = from_llama_quantize(command, registry, model=model, name="back", file="exported")
    assert types(planned(found.text, model, registry)[0]) == types(plan)


@settings(max_examples=examples(10), deadline=None)
@given(data=st.data())
def test_what_goes_to_ik_llama_cpp_and_the_tool_suite_comes_back(
    data: st.DataObject, registry: Registry
) -> None:
    plan, recipe, model = some_plan(data, registry)
    for with_model in (True, False):
        for write, read in ((to_custom_q, from_custom_q), (to_tool_suite, from_tool_suite)):
            text, given = write(plan, recipe).text, model if with_model else None
            found = read(text, registry, model=given, name="back", file="exported")
            assert types(planned(found.text, model, registry)[0]) == types(plan)
