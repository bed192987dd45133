"""Gemma: what the recorded models don't show, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.recorded_architectures import edit_config, write_recorded, write_variant

from quantrecipe.errors import ModelError
from quantrecipe.model import huggingface
from quantrecipe.model.open_model import open_model

Edit = Callable[[dict[str, Any]], object]
Weights = dict[str, tuple[str, list[int]]]

LANGUAGE = "model.language_model."


@pytest.fixture(autouse=True)
def no_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "tokenizer_pairs", lambda *_, **__: {})


def of_text(**values: Any) -> Edit:
    return lambda config: config["text_config"].update(values)


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("gemma", lambda it: it.update(tie_word_embeddings=False), "has an output of its own"),
        ("gemma3", lambda it: it.update(attn_logit_softcapping=50.0), "has attn_logit_softcapping"),
        ("gemma3n", of_text(altup_num_inputs=2), "has altup_num_inputs: 2 .what llama.cpp has: 4"),
        ("gemma3n", of_text(activation_sparsity_pattern=[0.5]), "has 1 values for 2 layers"),
        ("gemma3n", of_text(activation_sparsity_pattern=[0.5, 1.0]), "numbers from 0 to 1"),
        ("gemma3n", of_text(intermediate_size=[96]), "has 1 values for 2 layers under intermediate_size"),
        ("gemma3n", of_text(layer_types=["full_attention"]), "has 1 values for 2 layers under layer_types"),
        ("gemma4", of_text(rope_parameters={"full_attention": {"rope_type": "yarn"}}), "of rope_type 'yarn'"),
        ("gemma4", of_text(attn_logit_softcapping=50.0), "has attn_logit_softcapping"),
        ("gemma4", of_text(head_dim=16), "by num_attention_heads · head_dim"),
        ("gemma4", of_text(global_head_dim=32), "by num_attention_heads · head_dim"),
        ("gemma4", of_text(use_double_wide_mlp=False), "by intermediate_size"),
    ],
)
def test_configurations_that_are_refused(name: str, edit: Edit, message: str, tmp_path: Path) -> None:
    folder = edit_config(write_recorded(name, tmp_path), edit)
    with pytest.raises(ModelError, match=message):
        open_model(folder)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("gemma4", "layers.0.self_attn.v_proj.weight"),
        ("gemma4", "layers.1.self_attn.k_proj.weight"),
        ("gemma4", "per_layer_model_projection.weight"),
        ("gemma3n", "altup_projections.1.weight"),
        ("gemma3n", "layers.1.laurel.linear_left.weight"),
    ],
)
def test_tensors_that_have_to_be_there(name: str, tensor: str, tmp_path: Path) -> None:
    folder = write_recorded(name, tmp_path, lambda weights: weights.pop(LANGUAGE + tensor))
    with pytest.raises(ModelError, match=tensor.replace(".", r"\.")) as caught:
        open_model(folder)
    assert "download" in str(caught.value)


@pytest.mark.parametrize(
    "tensor", ["router.per_expert_scale", "experts.down_proj", "post_feedforward_layernorm_1.weight"]
)
def test_experts_need_all_that_belongs_to_them(tensor: str, tmp_path: Path) -> None:
    whole = f"{LANGUAGE}layers.2.{tensor}"
    folder = write_variant("gemma4-moe", tmp_path, {whole: None})
    with pytest.raises(ModelError, match=r"(layers|blk)\.2\..*is missing"):
        open_model(folder)


def test_full_attention_needs_values_where_keys_don_t_serve(tmp_path: Path) -> None:
    folder = edit_config(write_variant("gemma4-31b", tmp_path), of_text(attention_k_eq_v=False))
    with pytest.raises(ModelError, match=r"v_proj|attn_k"):
        open_model(folder)


def test_heads_of_full_attention_count_only_where_keys_serve_as_values(tmp_path: Path) -> None:
    folder = edit_config(write_variant("gemma4-plain", tmp_path), of_text(num_global_key_value_heads=2))
    assert open_model(folder).metadata["gemma4.attention.head_count_kv"].decode() == 4


def test_rows_beyond_the_vocabulary_are_left_out(tmp_path: Path) -> None:
    def longer(weights: Weights) -> None:
        weights["model.embed_tokens.weight"] = ("BF16", [448, 64])

    model = open_model(write_recorded("gemma3", tmp_path, longer))
    assert next(it.shape for it in model.tensors if it.name == "token_embd.weight") == (432, 64)


def test_an_embedding_model_has_a_window_of_its_own(tmp_path: Path) -> None:
    model = open_model(write_variant("embeddinggemma", tmp_path, sliding_window=256))
    assert model.metadata["gemma-embedding.attention.sliding_window"].decode() == 256
    (tmp_path / "other").mkdir()
    with pytest.raises(ModelError, match="has no sliding_window"):
        open_model(write_variant("embeddinggemma", tmp_path / "other", sliding_window=0))


@pytest.mark.parametrize("tokens", [["a"], [-1], [True]])
def test_suppressed_tokens_are_numbers(tokens: list[Any], tmp_path: Path) -> None:
    folder = write_variant("gemma4-unified", tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"suppress_tokens": tokens}))
    with pytest.raises(ModelError, match="suppress_tokens"):
        open_model(folder)
