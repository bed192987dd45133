"""The prior: for any number of layers and any role, a sensible alpha; and an estimate from headers alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from quantrecipe import load_registry, open_model
from quantrecipe.packaged import packaged_table
from quantrecipe.sensitivity import estimate, prior_alphas
from quantrecipe.sensitivity import prior as module
from quantrecipe.tensor import TensorInfo

ROOT = Path(__file__).parents[2]


def tensors(
    layers: int, *roles: str, outside: tuple[str, ...] = ("token_embd", "output")
) -> list[TensorInfo]:
    names = [f"{role}.weight" for role in outside]
    names += [f"blk.{layer}.{role}.weight" for layer in range(layers) for role in roles]
    return [TensorInfo.from_name(name, (256, 256), "BF16") for name in names]


def total(layers: int, role: str) -> float:
    found = prior_alphas(tensors(layers, role), layers)
    return sum(found[f"blk.{layer}.{role}.weight"].alpha for layer in range(layers))


@pytest.mark.parametrize("role", ["ffn_down", "attn_v", "ffn_up_exps", "ssm_out", "attn_kv_a_mqa"])
def test_a_model_of_more_layers_depends_less_on_each(role: str) -> None:
    """All layers of a role together change much less than their number."""
    assert total(80, role) / total(20, role) < 3
    few = prior_alphas(tensors(20, role), 20)
    many = prior_alphas(tensors(80, role), 80)
    assert many[f"blk.40.{role}.weight"].alpha < few[f"blk.10.{role}.weight"].alpha


def test_all_roles_of_all_kinds_of_models_have_one() -> None:
    roles = [
        *("attn_q", "attn_k", "attn_v", "attn_output", "attn_qkv", "attn_gate"),
        *("attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_kv_b", "attn_k_b", "attn_v_b"),
        *("ffn_gate", "ffn_up", "ffn_down", "ffn_gate_up"),
        *("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate_up_exps", "ffn_down_chexps"),
        *("ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"),
        *("ssm_in", "ssm_out", "ssm_x", "nobody_has_this"),
    ]
    found = prior_alphas(tensors(32, *roles, outside=("token_embd", "output", "per_layer_token_embd")), 32)
    assert all(0 < entry.alpha < 10 and 0 < entry.doubt < 3 for entry in found.values())
    sure, unsure = found["blk.5.ffn_down.weight"], found["blk.5.nobody_has_this.weight"]
    assert sure.doubt < unsure.doubt


def test_an_embedding_that_makes_the_logits_counts_as_much_as_an_output() -> None:
    tied = prior_alphas(tensors(32, "attn_v", outside=("token_embd",)), 32)["token_embd.weight"].alpha
    apart = prior_alphas(tensors(32, "attn_v"), 32)
    assert tied > 3 * apart["token_embd.weight"].alpha
    assert tied > apart["output.weight"].alpha


def test_there_is_no_jump_between_depths() -> None:
    found = prior_alphas(tensors(400, "attn_q"), 400)
    alphas = [found[f"blk.{layer}.attn_q.weight"].alpha for layer in range(400)]
    steps = [b / a for a, b in pairwise(alphas)]
    assert max(steps) < 1.05
    assert min(steps) > 0.95


@pytest.mark.parametrize("layers", [1, 2, 3, 1000])
def test_works_for_odd_numbers_of_layers(layers: int) -> None:
    assert all(entry.alpha > 0 for entry in prior_alphas(tensors(layers, "ffn_down"), layers).values())


def test_the_table_is_whole_and_says_where_it_is_from() -> None:
    table = packaged_table("sensitivity/prior.toml")
    assert table["version"] == module.VERSION
    assert tuple(table["depths"]) == module.DEPTHS
    families = {module.family_of(role) for role in table["roles"]}
    assert families == table["depth"].keys()
    assert all(len(curve) == len(module.DEPTHS) for curve in table["depth"].values())
    text = (Path(module.__file__).parent / "prior.toml").read_text(encoding="utf-8")
    assert "GGUF-Tool-Suite by Thireus and its contributors" in text
    assert "tools/make_prior.py" in text


def test_an_estimate_needs_no_weights() -> None:
    registry = load_registry(plugins=False)
    model = open_model("shapes/qwen3-14b", registry=registry)
    found = estimate(model, registry, {"Q4_K", "Q8_0", "F16"})
    assert found.types == ("Q4_K", "Q8_0", "F16")
    head = found.tensors["output.weight"]
    assert head.losses["Q4_K"].nbytes == registry.formats["Q4_K"].spec.tensor_bytes(
        next(t.shape for t in model.tensors if t.name == "output.weight")
    )
    assert head.alpha_source == "prior"
    assert head.digest == ""
    cheap, dear = found.cost("output.weight", "Q8_0"), found.cost("output.weight", "Q4_K")
    assert cheap is not None
    assert dear is not None
    assert 0 < cheap < dear
    total = found.total(dict.fromkeys(found.tensors, "Q4_K"))
    assert total is not None
    assert 0.005 < total < 0.1  # published: 0.03 for Q4_K_M of an 8 B model
