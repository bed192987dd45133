"""recipes/code-model.yaml: worth copying, on dense and mixture-of-experts models, tied and untied."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.plan.trace import trace
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo


@pytest.fixture(scope="module")
def recipe(registry: Registry) -> Recipe:
    return load_recipe("quantrecipe/code-model", registry=registry)


def model(
    *,
    layers: int = 32,
    width: int = 4096,
    ffn: int = 14336,
    kv: int = 1024,
    heads: int = 32,
    tied: bool = False,
    experts: int = 0,
) -> Model:
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (128256, width), "output_norm": (width,)}
    if not tied:
        shapes["output"] = (128256, width)
    for layer in range(layers):
        block = f"blk.{layer}."
        shapes |= {
            block + "attn_q": (width, width),
            block + "attn_k": (kv, width),
            block + "attn_v": (kv, width),
        }
        shapes |= {
            block + "attn_output": (width, width),
            block + "attn_norm": (width,),
            block + "ffn_norm": (width,),
        }
        if experts and layer:
            shapes[block + "ffn_gate_inp"] = (experts, width)
        for end, stack in (("_exps", (experts,)), ("_shexp", ())) if experts and layer else (("", ()),):
            shapes |= {block + f"ffn_{role}{end}": (*stack, ffn, width) for role in ("gate", "up")}
            shapes[block + f"ffn_down{end}"] = (*stack, width, ffn)
    numbers = {
        "block_count": layers,
        "attention.head_count": heads,
        "attention.head_count_kv": heads * kv // width,
    }
    numbers |= {"expert_count": experts} if experts else {}
    return Model(
        path=Path("model.gguf"),
        container="gguf",
        arch="llama",
        tensors=tuple(
            TensorInfo.from_name(f"{name}.weight", shape, "BF16") for name, shape in shapes.items()
        ),
        metadata={f"llama.{key}": GGUFValue.of(ValueType.UINT32, value) for key, value in numbers.items()},
        sources={},
    )


def types(recipe: Recipe, model: Model) -> dict[str, str]:
    decisions = trace(recipe, model).decisions
    return {d.tensor.name.removesuffix(".weight"): d.type for d in decisions}


def bits_per_weight(recipe: Recipe, model: Model, registry: Registry) -> float:
    decisions = trace(recipe, model).decisions
    nbytes = sum(
        registry.formats["F32" if d.type == "keep" else d.type].spec.tensor_bytes(d.tensor.shape)
        for d in decisions
    )
    return 8 * nbytes / sum(d.tensor.size for d in decisions)


def test_it_has_about_five_bits_per_weight_on_a_dense_model(recipe: Recipe, registry: Registry) -> None:
    found = bits_per_weight(recipe, model(), registry)
    stock = bits_per_weight(load_recipe("llama.cpp/Q4_K_M", registry=registry), model(), registry)
    assert 4.89 < stock < 5.0 < found < 5.2


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_has_six_bits_whatever_tensor_it_is(tied: bool, recipe: Recipe) -> None:
    found = types(recipe, model(tied=tied))
    assert found["token_embd" if tied else "output"] == "Q6_K"
    assert tied or found["token_embd"] == "Q4_K"


def test_what_is_small_and_sensitive_has_more_bits(recipe: Recipe) -> None:
    found = types(recipe, model())
    assert {found[f"blk.{layer}.attn_v"] for layer in range(32)} == {"Q6_K"}
    assert {found[f"blk.{layer}.attn_q"] for layer in range(32)} == {"Q5_K"}
    assert {found[f"blk.{layer}.ffn_down"] for layer in range(32)} == {"Q5_K"}
    assert [found[f"blk.{layer}.ffn_up"] for layer in (0, 1, 30, 31)] == ["Q5_K", "Q4_K", "Q4_K", "Q5_K"]
    assert found["blk.0.attn_norm"] == "keep"


def test_what_every_token_passes_has_more_bits_than_the_experts(recipe: Recipe) -> None:
    found = types(recipe, model(width=2048, ffn=1024, kv=512, experts=64))
    assert found["blk.5.attn_q"] == found["blk.5.attn_k"] == found["blk.5.ffn_down_shexp"] == "Q8_0"
    assert found["blk.0.ffn_up"] == "Q8_0"
    assert (found["blk.5.ffn_up_exps"], found["blk.5.ffn_down_exps"]) == ("Q4_K", "Q5_K")
    assert found["blk.5.ffn_gate_inp"] == "keep"


@pytest.mark.parametrize("layers", [1, 2, 4, 7, 28])
def test_it_works_on_models_of_any_depth(layers: int, recipe: Recipe) -> None:
    assert types(recipe, model(layers=layers, width=512, ffn=1536, kv=256, heads=4))


def test_every_rule_of_every_shipped_recipe_has_a_reason(registry: Registry) -> None:
    for path in (Path(__file__).parents[2] / "recipes").rglob("*.yaml"):
        assert [str(rule.origin) for rule in load_recipe(path, registry=registry).rules if not rule.why] == []
