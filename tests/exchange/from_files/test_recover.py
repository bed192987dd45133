"""A quantized model gives its mix back: as the preset that it is, or as few rules that say the same."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples, sampled
from support.quantized import quantized, types_of, with_types

from quantrecipe.errors import ModelError
from quantrecipe.exchange.from_files.recover import recover
from quantrecipe.exchange.source import Source
from quantrecipe.gguf.file_types import FILE_TYPES
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.model.shapes import open_shapes
from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo

ZOO = sorted((Path(__file__).parents[2] / "data/shapes/zoo").glob("*.json"))
PRESETS = sorted(set(FILE_TYPES) - {"NVFP4"})
MOST_RULES = 15
SHARE = 1
"""Presets that each model meets."""
MOST_RELATIVES = 3


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def zoo(name: str) -> Model:
    return open_shapes(ZOO[0].with_name(f"{name}.json"))


def relatives(model: Model) -> list[Model]:
    """Other models of the same architecture: other widths, depths, heads."""
    others = [path for path in ZOO if f'"architecture": "{model.arch}"' in path.read_text()[:200]]
    return [open_shapes(path) for path in others if path != model.path][:MOST_RELATIVES]


def gives(text: str, model: Model, registry: Registry, *, importance: bool = False) -> dict[str, str]:
    return types_of(load_recipe_text(text, registry=registry), model, registry, importance=importance)


def cases() -> list[tuple[str, str, bool]]:
    found = []
    for number, path in enumerate(ZOO):
        for i in range(SHARE):
            found.append((path.stem, PRESETS[(number * SHARE + i) % len(PRESETS)], bool((number + i) % 2)))
    return found


@pytest.mark.parametrize(("model_name", "preset", "importance"), sampled(cases()))
def test_a_preset_is_recognised(model_name: str, preset: str, importance: bool, registry: Registry) -> None:
    model, recipe = zoo(model_name), load_recipe(f"llama.cpp/{preset}", registry=registry)
    try:
        file = quantized(model, recipe, registry, importance=importance)
    except AssertionError:
        pytest.skip("llama-quantize refuses such rows")
    found = recover(file, registry, name="found")
    assert found.rules == 0
    assert f"extends: llama.cpp/{preset}\n" in found.text
    made = load_recipe_text(found.text, registry=registry)
    for other in relatives(model):
        expected = Source(model=other, registry=registry, importance=importance).planned(recipe)
        assert Source(model=other, registry=registry, importance=importance).planned(made) == expected


@pytest.mark.parametrize(("model_name", "preset", "importance"), sampled(cases()[::3]))
def test_without_the_preset_a_few_rules_say_the_same(
    model_name: str, preset: str, importance: bool, registry: Registry
) -> None:
    model, recipe = zoo(model_name), load_recipe(f"llama.cpp/{preset}", registry=registry)
    try:
        file = quantized(model, recipe, registry, importance=importance)
    except AssertionError:
        pytest.skip("llama-quantize refuses such rows")
    found = recover(file, registry, name="found", presets=False)
    assert found.rules <= MOST_RULES
    assert "extends" not in found.text
    assert gives(found.text, model, registry) == {t.name: t.dtype for t in file.tensors}


UNSLOTH_LIKE = """
quantrecipe: 1
extends: llama.cpp/Q4_K_M
rules:
  - {tensors: token_embd, type: Q8_0}
  - {tensors: "attn_{q,k}", layers: first 4, type: Q5_K}
  - {tensors: ffn_down, layers: "0-2, 9, 17", type: Q8_0}
  - {tensors: attn_output, layers: last 2, type: Q6_K}
"""


def test_what_differs_from_the_nearest_preset_is_all_that_is_written(registry: Registry) -> None:
    recipe = load_recipe_text(UNSLOTH_LIKE, registry=registry)
    file = quantized(zoo("llama-32"), recipe, registry, label="Q4_K_M", importance=True)
    found = recover(replace(file, path=Path("UD-Q4_K_XL.gguf")), registry, name="UD-Q4_K_XL")
    assert found.text == (
        "# Imported from UD-Q4_K_XL.gguf: 291 tensors, llama.\n"
        "# Made with an importance matrix: file calibration.gguf, entries_count 224.\n"
        "quantrecipe: 1\n"
        "name: UD-Q4_K_XL\n"
        "summary: The mix of UD-Q4_K_XL.gguf; 4.92 bits per weight\n"
        "extends: llama.cpp/Q4_K_M\n"
        "importance: required\n"
        "rules:\n"
        "  - tensors: token_embd\n"
        "    type: Q8_0\n"
        "    why: as found\n"
        '  - tensors: "attn_{k,q}"\n'
        "    layers: first 1/8\n"
        "    type: Q5_K\n"
        "    why: as found; 1.8 % of the weights\n"
        "  - tensors: attn_output\n"
        "    layers: last 2\n"
        "    type: Q6_K\n"
        "    why: as found; 0.7 % of the weights\n"
        "  - tensors: ffn_down\n"
        "    layers: first 3, 9, 17\n"
        "    type: Q8_0\n"
        "    why: as found; 3.7 % of the weights\n"
    ).replace('"attn_{k,q}"', "attn_{k,q}").replace("first 1/8", "first 4")


EXPERTS_LOW = """
quantrecipe: 1
default: Q8_0
rules:
  - {tensors: head, type: Q6_K}
  - {tensors: ffn_down_exps, layers: first 6, type: IQ3_XXS}
  - {tensors: ffn_down_exps, type: IQ2_XXS}
  - {tensors: "ffn_{gate,up}_exps", type: IQ1_M}
"""


@pytest.mark.slow
def test_a_mix_far_from_every_preset_is_roles_and_layers(registry: Registry) -> None:
    recipe = load_recipe_text(EXPERTS_LOW, registry=registry)
    file = quantized(zoo("qwen3moe-48"), recipe, registry, label="IQ1_M")
    found = recover(file, registry, name="low")
    made = load_recipe_text(found.text, registry=registry)
    assert not any(not rule.own for rule in made.rules), "it extends nothing"
    said = {(" ".join(map(str, rule.tensors)), str(rule.layers or ""), rule.type) for rule in made.rules}
    assert ("ffn_down_exps", "first 1/8", "IQ3_XXS") in said
    assert ("ffn_down_exps", "", "IQ2_XXS") in said
    assert made.file_type == "IQ1_M"


def test_fallbacks_are_told_from_intent(registry: Registry) -> None:
    """Rows of 1152 and 96: most tensors are Q5_0, IQ4_NL or Q8_0, and nobody asked for these."""
    model = zoo("columns-1152-and-96")
    file = quantized(model, load_recipe("llama.cpp/Q4_K_M", registry=registry), registry)
    assert {t.dtype for t in file.tensors if t.role == "attn_q"} == {"Q5_0"}
    found = recover(file, registry, name="found", presets=False)
    assert "default: Q4_K\n" in found.text
    assert "# Fallback: 49 tensors of type Q5_0, whose rows can't be Q4_K:" in found.text
    other = zoo("llama-32")
    assert gives(found.text, other, registry)["blk.3.attn_q.weight"] == "Q4_K"


def test_fallbacks_are_told_from_intent_by_their_like(registry: Registry) -> None:
    """No label, no preset: the same role has the type where rows allow it, or the rest of the file does."""
    recipe = load_recipe_text(
        "quantrecipe: 1\ndefault: Q4_K\nrules: [{tensors: ffn_up, type: Q6_K}]\n", registry=registry
    )
    made = [
        TensorInfo.from_name(f"blk.{layer}.{role}.weight", (512, cols), "F16")
        for layer in range(6)
        for role, cols in (
            ("ffn_up", 384),
            ("ffn_down", 512),
            ("attn_q", 384),
            ("attn_k", 512 if layer else 384),
        )
    ]
    model = replace(zoo("llama-8-small"), tensors=tuple(made))
    found = recover(quantized(model, recipe, registry), registry, name="found", presets=False)
    assert "default: Q4_K\n" in found.text
    assert "- tensors: ffn_up\n    type: Q8_0" in found.text, (
        "nothing else in the file is Q6_K: it may be meant"
    )


def test_a_type_that_is_chosen_elsewhere_is_no_fallback(registry: Registry) -> None:
    model = zoo("llama-32")
    recipe = load_recipe_text("quantrecipe: 1\ndefault: IQ4_NL\n", registry=registry)
    found = recover(quantized(model, recipe, registry, label="IQ4_NL"), registry, name="found", presets=False)
    assert "default: IQ4_NL\n" in found.text
    assert "Fallback" not in found.text


def test_a_wrong_label_is_said(registry: Registry) -> None:
    """ik_llama.cpp 1420: a file that calls itself Q6_K and is mostly F16."""
    recipe = load_recipe("llama.cpp/F16", registry=registry)
    found = recover(quantized(zoo("llama-32"), recipe, registry, label="Q6_K"), registry, name="found")
    assert found.notes == ("The file says that it is mostly Q6_K, but most of its weights are F16.",)
    assert "file_type: Q6_K\n" in found.text, "what the file says stays"


def test_a_label_of_ik_llama_cpp_is_left_out(registry: Registry) -> None:
    """No recipe can say it: `file_type` has llama.cpp's names alone."""
    file = quantized(zoo("llama-32"), load_recipe("llama.cpp/Q4_K_M", registry=registry), registry)
    label = {"general.file_type": GGUFValue.of(ValueType.UINT32, 145)}  # IQ4_KS
    found = recover(replace(file, metadata={**file.metadata, **label}), registry, name="found")
    assert "extends: llama.cpp/Q4_K_M\n" in found.text
    assert "file_type" not in found.text


def test_importance_is_required_where_the_file_had_it(registry: Registry) -> None:
    recipe = load_recipe("llama.cpp/Q4_K_M", registry=registry)
    found = recover(quantized(zoo("llama-32"), recipe, registry, importance=True), registry, name="found")
    assert "importance: required\n" in found.text
    assert "file calibration.gguf, entries_count 224" in found.text


def test_a_quantized_router_is_named(registry: Registry) -> None:
    """Kept tensors that were quantized nevertheless."""
    model = zoo("qwen3moe-48")
    recipe = load_recipe_text(
        "quantrecipe: 1\nextends: llama.cpp/Q4_K_M\nrules: [{tensors: ffn_gate_inp, type: Q8_0}]\n",
        registry=registry,
    )
    found = recover(quantized(model, recipe, registry, label="Q4_K_M"), registry, name="found")
    assert "extends: llama.cpp/Q4_K_M" in found.text
    assert "- tensors: ffn_gate_inp\n    type: Q8_0\n" in found.text


def test_tied_heads_keep_their_rule(registry: Registry) -> None:
    recipe = load_recipe_text(
        "quantrecipe: 1\ndefault: Q4_K\nrules: [{tensors: head, type: Q8_0}]\n", registry=registry
    )
    found = recover(quantized(zoo("llama-4-tied"), recipe, registry), registry, name="found", presets=False)
    assert gives(found.text, zoo("llama-32"), registry)["output.weight"] == "Q8_0"


def test_factors_beside_weights_are_no_tensors_of_the_recipe(registry: Registry) -> None:
    model = zoo("llama-8-small")
    types = {t.name: "NVFP4" if t.role == "attn_q" else "Q8_0" for t in model.tensors if len(t.shape) > 1}
    file = with_types(model, {t.name: types.get(t.name, "F32") for t in model.tensors})
    factors = [TensorInfo.from_name(f"blk.{layer}.attn_q.scale", (1,), "F32") for layer in range(8)]
    found = recover(replace(file, tensors=(*file.tensors, *factors)), registry, name="found")
    assert "- tensors: attn_q\n    type: NVFP4\n" in found.text
    assert ".scale" not in found.text


def test_types_of_other_programs_name_their_package(registry: Registry) -> None:
    model = with_types(zoo("llama-4-tied"), {t.name: "F32" for t in zoo("llama-4-tied").tensors})
    tensors = tuple(replace(t, dtype="type 144") if t.role == "attn_q" else t for t in model.tensors)
    with pytest.raises(ModelError) as caught:
        recover(replace(model, tensors=tensors), registry, name="found")
    assert "4 of its tensors are stored as IQ4_KS: format 'IQ4_KS' is not available" in str(caught.value)
    tensors = tuple(replace(t, dtype="IQ4_KS") for t in model.tensors)  # as shape files have it
    with pytest.raises(ModelError, match="stored as IQ4_KS: format 'IQ4_KS' is not available"):
        recover(replace(model, tensors=tensors), registry, name="found")
    tensors = tuple(replace(t, dtype="type 999") for t in model.tensors)
    with pytest.raises(ModelError, match="are stored as type 999, which isn't known"):
        recover(replace(model, tensors=tensors), registry, name="found")


TYPES = ("Q2_K", "Q4_K", "Q6_K", "Q8_0", "IQ4_NL", "Q5_0", "F16", "F32", "IQ3_S")


@settings(max_examples=examples(25), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    noise=st.sampled_from([0.0, 0.05, 1.0]),
)
def test_any_mix_comes_back(seed: int, noise: float, registry: Registry) -> None:
    """By role and with noise, in types that are fallbacks elsewhere, on rows that K-quants don't fit."""
    rng = random.Random(seed)
    model = zoo(
        rng.choice(["llama-8-small", "columns-1152-and-96", "mixtral-8x", "t5-12", "columns-64-tied"])
    )
    by_role = {t.role: rng.choice(TYPES) for t in model.tensors}
    reached = Source(model=model, registry=registry).reached
    types = {}
    for tensor in model.tensors:
        wish = rng.choice(TYPES) if rng.random() < noise else by_role[tensor.role]
        fits = registry.formats[wish].accepts(tensor) is None
        types[tensor.name] = (
            wish
            if fits and tensor.name in reached
            else "Q8_0"
            if tensor.name in reached and not tensor.cols % 32
            else tensor.dtype
        )
    file = with_types(model, types, label=rng.choice([None, "Q4_K_M", "IQ4_NL"]))
    found = recover(file, registry, name="found", presets=False)
    assert gives(found.text, Source.of(file, registry).model, registry) == types


def test_a_real_file_is_read(registry: Registry, tmp_path: Path) -> None:
    from support.zoo import write_model

    write_model(ZOO[0].with_name("llama-4-tied.json"), tmp_path / "model.gguf")
    found = recover(open_model(tmp_path / "model.gguf", registry=registry), registry, name="found")
    assert "extends: llama.cpp/F16\n" in found.text


@pytest.mark.slow
def test_the_same_file_gives_the_same_text(registry: Registry) -> None:
    recipe: Recipe = load_recipe_text(UNSLOTH_LIKE, registry=registry)
    file = quantized(zoo("llama-32"), recipe, registry, label="Q4_K_M")
    shuffled = list(file.tensors)
    random.Random(1).shuffle(shuffled)
    again = recover(replace(file, tensors=tuple(shuffled)), registry, name="x")
    assert again == recover(file, registry, name="x")
