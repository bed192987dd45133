"""Llama's descendants, gpt-oss and OpenELM: what the recorded models don't show, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recorded_architectures import edit_config, write_recorded, write_variant

from quantrecipe.errors import ModelError
from quantrecipe.model import huggingface
from quantrecipe.model.open_model import open_model

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def no_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "tokenizer_pairs", lambda *_, **__: {})


def of_text(**values: Any) -> Edit:
    return lambda config: config["text_config"].update(values)


def of_rope(**values: Any) -> Edit:
    return lambda config: config["text_config"]["rope_parameters"].update(values)


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("llama4", of_text(num_local_experts=None, num_experts_per_tok=None), "has no experts"),
        ("llama4", of_text(num_local_experts=8), "by num_experts"),
        ("llama4", of_text(interleave_moe_layer_step=0), "has no interleave_moe_layer_step"),
        ("llama4", of_text(interleave_moe_layer_step=4), "is none that llama.cpp has|is missing"),
        ("llama4", of_text(intermediate_size=16), "by num_experts, moe_intermediate_size"),
        ("llama4", of_text(layer_types=["full_attention"]), "has 1 values for 4 layers under layer_types"),
        ("ministral3", of_rope(rope_type="linear"), "has the rope_type 'linear'.*yarn"),
        ("ministral3", of_rope(llama_4_scaling_beta=None), "has no llama_4_scaling_beta"),
        ("museglimmer", of_text(qk_scale_factor=None), "has no qk_scale_factor"),
        ("museglimmer", of_text(layer_types=["full_attention"]), "has 1 values for 4 layers"),
        ("openelm", lambda it: it.update(ffn_multipliers=[0.5, 1.5]), "has 2 values for 3 layers"),
        (
            "openelm",
            lambda it: it.update(ffn_multipliers=[0.5, "1", 4]),
            "ffn_multipliers that aren't numbers",
        ),
        ("openelm", lambda it: it.update(ffn_multipliers=[0.5, 3.0, 4]), "by intermediate_size"),
        ("openelm", lambda it: it.update(num_query_heads=[2, 4]), "has 2 values for 3 layers"),
        ("openelm", lambda it: it.pop("num_transformer_layers"), "has no n_layers"),
    ],
)
def test_configurations_that_are_refused(name: str, edit: Edit, message: str, tmp_path: Path) -> None:
    folder = edit_config(write_recorded(name, tmp_path), edit)
    with pytest.raises(ModelError, match=message):
        open_model(folder)


@pytest.mark.parametrize("tensor", ["gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"])
def test_experts_of_gpt_oss_have_to_be_there(tensor: str, tmp_path: Path) -> None:
    whole = f"model.layers.1.mlp.experts.{tensor}"
    folder = write_variant("gptoss-bf16", tmp_path, {whole: None})
    with pytest.raises(ModelError, match="is missing"):
        open_model(folder)


def test_gate_and_up_alternate(tmp_path: Path) -> None:
    odd = {"model.layers.0.mlp.experts.gate_up_proj_bias": ("BF16", [4, 191])}
    with pytest.raises(ModelError, match="can't be halved"):
        open_model(write_variant("gptoss-bf16", tmp_path, odd))


def test_a_factor_of_q_and_k_becomes_norms(tmp_path: Path) -> None:
    folder = edit_config(write_recorded("museglimmer", tmp_path), of_text(qk_scale_factor=2.5))
    sources = open_model(folder).sources
    for name, value in {"attn_q_norm": 2.5, "attn_k_norm": 1.0}.items():
        source = sources[f"blk.3.{name}.weight"]
        assert source.extents == ()
        assert getattr(source, "data", b"") == np.full(16, value, "<f4").tobytes()


def test_a_feed_forward_isn_t_rounded_down_by_a_tenth(tmp_path: Path) -> None:
    longer = {
        "proj_1": ("BF16", [128, 64]),
        "proj_2": ("BF16", [64, 64]),
    }  # 0.7 · 64 is nearer to 32 than to 64
    folder = write_recorded(
        "openelm",
        tmp_path,
        lambda it: it.update(
            {f"transformer.layers.0.ffn.{key}.weight": made for key, made in longer.items()}
        ),
    )
    model = open_model(edit_config(folder, lambda it: it.update(ffn_multipliers=[0.7, 1.5, 4.0])))
    assert model.metadata["openelm.feed_forward_length"].decode() == [64, 96, 256]


def test_the_language_model_s_own_class_counts(tmp_path: Path) -> None:
    folder = edit_config(write_variant("llava", tmp_path), of_text(architectures=["NoSuchForCausalLM"]))
    with pytest.raises(ModelError, match="architecture 'NoSuchForCausalLM' is not supported"):
        open_model(folder)
    of_the_whole = {"architectures": ["StepVLForConditionalGeneration"]}
    edit_config(folder, lambda it: it.update(of_the_whole))
    with pytest.raises(ModelError) as caught:
        open_model(folder)
    assert "NoSuchForCausalLM" not in str(caught.value)
