"""Rules of single classes that tests/data/completion.jsonl doesn't try: older spellings, and lists in config.json."""

from __future__ import annotations

from typing import Any

import pytest

from quantrecipe.model.architectures.completion import complete, completed, known_model_types
from quantrecipe.model.architectures.completion.derived import DERIVED

F, S, L, C = "full_attention", "sliding_attention", "linear_attention", "conv"


def test_rules_are_of_classes_that_are_known() -> None:
    assert set(DERIVED) - known_model_types() == set()


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("gemma3_text", {"sliding_window_pattern": 2}, [S, F, S, F]),
        ("gemma3_text", {"layer_types": [F, S, F, F]}, [F, S, F, F]),
        ("gemma4_text", {}, [S, S, S, F]),
        ("cohere2", {"sliding_window_pattern": 3}, [S, S, F, S]),
        ("exaone4", {"sliding_window_pattern": 2, "sliding_window": 8}, [S, F, S, F]),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 2, "sliding_window": 9}, [F, F, S, S]),
        ("qwen2", {"max_window_layers": 2, "sliding_window": 9}, [F, F, F, F]),
        ("qwen3_next", {"full_attention_interval": 2}, [L, F, L, F]),
        ("lfm2", {"full_attn_idxs": [1, 3]}, [C, F, C, F]),
        ("lfm2", {}, [F, F, F, F]),
        ("modernbert", {"global_attn_every_n_layers": 2}, [F, S, F, S]),
        ("muse_glimmer_text", {}, [S, S, S, F]),
        ("granite_swa", {}, [F, S, S, S]),
        ("kimi_linear", {}, [L, L, L, L]),
        ("kimi_linear", {"linear_attn_config": {"full_attn_layers": [2, 4], "kda_layers": [1, 3]}}, [L, F, L, F]),
        ("granitemoehybrid", {"layer_types": ["mamba", "attention"] * 2}, ["mamba", "attention"] * 2),
    ],
)  # fmt: skip
def test_kinds_of_layers(kind: str, values: dict[str, Any], expected: list[str]) -> None:
    assert complete({"model_type": kind, "num_hidden_layers": 4, **values})["layer_types"] == expected


@pytest.mark.parametrize(
    ("kind", "values", "key", "expected"),
    [
        ("qwen2", {"sliding_window": 9}, "sliding_window", None),
        ("qwen2_moe", {"sliding_window": 9}, "sliding_window", 0),
        ("bloom", {"n_embed": 12}, "hidden_size", 12),
        ("falcon", {"n_embed": 12}, "ffn_hidden_size", 48),
        ("lfm2", {"block_ff_dim": 12, "tie_embedding": False}, "intermediate_size", 12),
        ("lfm2", {"tie_embedding": False}, "tie_word_embeddings", False),
        ("kimi_linear", {"linear_attn_config": {"head_dim": 12}}, "linear_head_dim", 12),
        ("t5", {"feed_forward_proj": "gated-gelu"}, "dense_act_fn", "gelu_new"),
        ("t5", {"feed_forward_proj": "relu", "tie_word_embeddings": False}, "tie_word_embeddings", True),
        ("dbrx", {"attn_config": {"kv_n_heads": 3}}, "num_key_value_heads", 3),
        ("dbrx", {"ffn_config": {"moe_top_k": 3}, "d_model": 8}, "ffn_config",
         {"ffn_hidden_size": 3584, "moe_num_experts": 4, "moe_top_k": 3, "ffn_act_fn": {"name": "silu"},
          "hidden_size": 8}),
        ("hrm_text", {"num_hidden_layers": 4, "H_cycles": 2, "L_cycles": 2}, "num_hidden_layers", 24),
        ("hrm_text", {"num_hidden_layers": 24, "num_layers_per_stack": 4}, "num_hidden_layers", 24),
        ("glm_moe_dsa", {"num_hidden_layers": 4, "index_topk_pattern": "FSSF"}, "indexer_types",
         ["full", "shared", "shared", "full"]),
        ("glm_moe_dsa", {"num_hidden_layers": 5, "index_topk_freq": 2}, "indexer_types",
         ["full", "full", "shared", "full", "shared"]),
        ("cohere2_moe", {"num_hidden_layers": 2, "first_k_dense_replace": 1}, "mlp_layer_types", ["dense", "sparse"]),
        ("cohere2_moe", {"num_hidden_layers": 2, "first_k_dense_replace": 10**12}, "layer_types", [F, F]),
        ("gemma4_text", {"num_hidden_layers": 2, "layer_types": [F, F], "global_head_dim": 64}, "per_layer_config",
         {"0": {"head_dim": 64}, "1": {"head_dim": 64}}),
        ("gemma4_text", {"num_hidden_layers": 12, "num_global_key_value_heads": 3, "attention_k_eq_v": True},
         "per_layer_config", {number: {"head_dim": 512, "num_key_value_heads": 3} for number in ("05", "11")}),
        ("falcon_h1", {"hidden_size": 64, "mamba_d_ssm": 48, "mamba_n_heads": 4, "mamba_d_head": "auto"},
         "mamba_d_head", 12),
        ("smollm3", {"num_hidden_layers": 4, "no_rope_layer_interval": 2}, "no_rope_layers", [1, 0, 1, 0]),
        ("gemma", {"hidden_act": "gelu"}, "hidden_act", "gelu_pytorch_tanh"),
    ],
)  # fmt: skip
def test_what_follows(kind: str, values: dict[str, Any], key: str, expected: Any) -> None:
    assert complete({"model_type": kind, **values})[key] == expected


@pytest.mark.parametrize("junk", ["many", -3, [], {}, 1e999, True, 2**70])
def test_values_of_a_wrong_kind_stay_for_others_to_refuse(junk: Any) -> None:
    names = {"hidden_size", "num_attention_heads", "layer_types", "max_window_layers", "linear_attn_config",
             "rope_theta", "first_k_dense_replace", "vision_config", "num_hidden_layers"}  # fmt: skip
    for kind in sorted(known_model_types()):
        assert completed({"model_type": kind, **dict.fromkeys(names, junk)})["rope_theta"] == junk, kind
