"""Names that no tensor has: Hugging Face's, other tools', and slips get a hint at the role."""

from __future__ import annotations

import pytest

from quantrecipe.errors import PlanError, RecipeError
from quantrecipe.model.open_model import open_model
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.terms.meant_patterns import meant
from quantrecipe.recipe.terms.pattern import Pattern
from quantrecipe.registry import Registry

DENSE, MOE, LATENT = (
    {tensor.role for tensor in open_model(f"shapes/{name}").tensors}
    for name in ("qwen3-14b", "qwen3-30b-a3b", "deepseek-v3.1")
)


@pytest.mark.parametrize(
    ("text", "roles", "says"),
    [
        ("v_proj", DENSE, "did you mean 'attn_v'? Hugging Face's v_proj is attn_v in GGUF"),
        ("down_proj", DENSE, "did you mean 'ffn_down'? Hugging Face's down_proj is ffn_down in GGUF"),
        ("down_proj", MOE, "did you mean 'ffn_down_exps'?"),
        ("down_proj", LATENT, "did you mean 'ffn_down' or 'ffn_down_{shexp,exps}'?"),
        ("o_proj", DENSE, "did you mean 'attn_output'?"),
        ("embed_tokens", DENSE, "did you mean 'token_embd'?"),
        ("lm_head", DENSE, "did you mean 'head'? Hugging Face's lm_head is output in GGUF"),
        ("model.norm", DENSE, "did you mean 'output_norm'?"),
        ("mlp.gate", MOE, "did you mean 'ffn_gate_inp'?"),
        ("block_sparse_moe.experts", MOE, "did you mean 'ffn_{up,gate,down}_exps'?"),
        ("model.layers.3.self_attn.q_proj", DENSE, "did you mean 'blk.3.attn_q'?"),
        ("blk.3.v_proj", DENSE, "did you mean 'blk.3.attn_v'?"),
        ("model.layers.*.mlp.down_proj", DENSE, "did you mean 'ffn_down'?"),
        ("mlp.experts.*.down_proj", MOE, "did you mean 'ffn_down_exps'?"),
        ("{q,k}_proj", DENSE, "did you mean 'attn_q' or 'attn_k'?"),
        (r"regex:.*\.down_proj\.", DENSE, "did you mean 'ffn_down'?"),
        ("kv_a_proj_with_mqa", LATENT, "did you mean 'attn_kv_a_mqa'?"),
        ("experts", MOE, "did you mean 'ffn_*_exps'?"),
        ("attn", DENSE, "did you mean 'attn_*'?"),
        ("mlp", DENSE, "did you mean 'ffn_*'?"),
        ("router", MOE, "did you mean 'ffn_gate_inp'?"),
        ("gate", DENSE, "did you mean 'ffn_gate'?"),
        ("embeddings", DENSE, "did you mean 'token_embd'?"),
        ("atn_v", DENSE, "did you mean 'attn_v'?"),
        ("Attn_V", DENSE, "did you mean 'attn_v'?"),
        ("blk.99.attn_v", DENSE, "did you mean 'attn_v'? the model has no such layer"),
        ("blk.3.attn_w", DENSE, "did you mean 'attn_"),
        ("experts", DENSE, "experts would be ffn_*_exps in GGUF, and the model has none"),
        ("v_proj", LATENT, "Hugging Face's v_proj is attn_v in GGUF, and the model has none"),
    ],
)
def test_what_is_meant(text: str, roles: set[str], says: str) -> None:
    assert meant(text, roles).startswith(says)


@pytest.mark.parametrize("text", ["zzzz", "*", "regex:.", "a b", "{", "9"])
def test_who_knows(text: str) -> None:
    assert meant(text, DENSE) == ""


def plan_warnings(rules: str, registry: Registry) -> tuple[str, ...]:
    text = f"quantrecipe: 1\ndefault: Q4_K\nrules:\n{rules}"
    recipe = load_recipe_text(text, file="r.yaml", registry=registry)
    return make_plan(recipe, open_model("shapes/qwen3-14b"), registry=registry).warnings


def test_a_rule_of_other_names_alone_is_an_error_with_the_hint(registry: Registry) -> None:
    with pytest.raises(PlanError) as caught:
        plan_warnings("  - {tensors: [v_proj, lm_head], type: Q6_K}\n", registry)
    (problem,) = caught.value.problems
    assert problem.remedy.startswith(
        "did you mean 'attn_v'? Hugging Face's v_proj is attn_v in GGUF; did you mean"
    )
    assert problem.remedy.endswith("`optional: true` if only some models have them")


@pytest.mark.parametrize("rest", ["tensors: [attn_q, v_proj]", "tensors: v_proj, optional: true"])
def test_beside_others_or_optional_it_is_a_warning(rest: str, registry: Registry) -> None:
    assert plan_warnings(f"  - {{{rest}, type: Q6_K}}\n", registry) == (
        "r.yaml:4: no tensor of this model is named by 'v_proj'; "
        "did you mean 'attn_v'? Hugging Face's v_proj is attn_v in GGUF",
    )


def test_names_that_other_models_have_are_no_mistake(registry: Registry) -> None:
    assert not plan_warnings(
        "  - {tensors: [attn_q, 'attn_{qkv,kv_b}', ffn_down_exps], type: Q6_K}\n", registry
    )


def test_whole_names_are_told_when_the_recipe_is_read() -> None:
    with pytest.raises(RecipeError, match=r"spells out '\.weight'; did you mean 'blk\.3\.attn_q'\?"):
        Pattern.parse("model.layers.3.self_attn.q_proj.weight")
    with pytest.raises(RecipeError, match=r"spells out '\.weight'; leave it out: blk\.3\.attn_q"):
        Pattern.parse("blk.3.attn_q.weight")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("q4", "did you mean Q4_K or"),
        ("int4", "the nearest is Q4_0 or Q4_K"),
        ("8-bit", "the nearest is Q8_0"),
        ("fp16", "the nearest is F16"),
        ("UD-Q4_K_XL", "is a recipe, not a format; extend it (extends: quantrecipe/ud-q4-k-xl)"),
    ],
)
def test_types_by_other_words(name: str, says: str, registry: Registry) -> None:
    assert says in str(registry.missing_format(name))
