"""What transformers' configuration classes work out from other values, class by class: kinds of layers, lengths, ranks.

The rules are facts of transformers (each class's `__post_init__`). `tools/make_defaults.py --check` compares them
with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from quantrecipe.model.architectures.completion.rules import (
    FILLS,
    Rule,
    Values,
    all_layers,
    always,
    dense_first,
    every,
    fill,
    kinds,
    layers,
    mamba_heads,
    period,
    rank,
)

__all__ = ["DERIVED"]


def _windowed(v: Values, layer: int) -> bool:
    """Qwen: full attention up to max_window_layers, and everywhere in models without a window."""
    return v.get("sliding_window") is None or layer < v["max_window_layers"]


def _schedule(v: Values) -> list[str]:
    """Which layers have an indexer of their own: a pattern such as FSSF, or a frequency."""
    pattern = v.get("index_topk_pattern")
    if isinstance(pattern, str):
        return [{"F": "full", "S": "shared"}[letter] for letter in pattern]
    if pattern is not None:
        return list(pattern)
    every, offset = max(v.get("index_topk_freq", 1), 1), v.get("index_skip_topk_offset", 2)
    return ["shared" if max(layer - offset + 1, 0) % every else "full" for layer in layers(v)]


def _kimi_kinds(v: Values) -> list[str | None]:
    """Kimi Linear lists its layers by number, from 1."""
    lists = v.get("linear_attn_config") or {}
    if not {"full_attn_layers", "kda_layers"} <= lists.keys():
        return ["full_attention" if i and i % 4 == 0 else "linear_attention" for i in layers(v)]
    kinds: list[str | None] = [None for _ in layers(v)]
    for name, kind in {"full_attn_layers": "full_attention", "kda_layers": "linear_attention"}.items():
        for number in lists[name]:
            kinds[number - 1] = kind
    return kinds


def _from_linear(key: str, name: str) -> Rule:
    """A length that Kimi Linear and GLM 5 keep in linear_attn_config."""
    return always(key, lambda v: v["linear_attn_config"][name])


_LINEAR = (
    _from_linear("linear_head_dim", "head_dim"),
    _from_linear("linear_num_heads", "num_heads"),
    _from_linear("linear_conv_kernel_dim", "short_conv_kernel_size"),
)


def _expanded(v: Values) -> int:
    return int(v["mamba_expand"] * v["hidden_size"])


def _cohere2_moe_kinds(v: Values) -> list[str]:
    """Dense layers at the beginning have a period of their own."""
    dense = min(v.get("first_k_dense_replace", 0), len(layers(v)))
    spans = ((dense, v["prefix_dense_sliding_window_pattern"]),
             (len(layers(v)) - dense, v["sliding_window_pattern"]))  # fmt: skip
    return [
        "sliding_attention" if (i + 1) % period else "full_attention"
        for count, period in spans
        for i in range(count)
    ]


def _sparsity(v: Values) -> list[float]:
    sparse = 10 if len(layers(v)) > 10 else 0
    return [0.95 if layer < sparse else 0.0 for layer in layers(v)]


def _global_layers(v: Values) -> dict[str, dict[str, Any]]:
    """Gemma 4: what layers of full attention have otherwise, by their numbers."""
    other = {"head_dim": v.get("global_head_dim", 512)}
    heads = v.get("num_global_key_value_heads") if v.get("attention_k_eq_v", True) else None
    if heads is not None:
        other["num_key_value_heads"] = heads
    full = [i for i, kind in enumerate(v["layer_types"]) if kind == "full_attention"]
    return {str(i).zfill(len(str(full[-1]))): other for i in full}


def _last_is_full(v: Values) -> list[str]:
    return [*v["layer_types"][:-1], "full_attention"]


def _full_or_conv(v: Values) -> list[str]:
    full = v.get("full_attn_idxs")
    return ["full_attention" if full is None or i in full else "conv" for i in layers(v)]


def _smollm3_kinds(v: Values) -> list[str]:
    window = v["use_sliding_window"] and v.get("sliding_window") is not None
    return [
        "sliding_attention" if window and not rotary else "full_attention" for rotary in v["no_rope_layers"]
    ]


def _legacy_tie(v: Values) -> Any:
    return v["tie_embedding"]


def _all_shared(text: Values) -> dict[str, Any]:
    """Gemma 4's draft models use the keys and values of the model that they draft for, in all layers."""
    return {**text, "num_kv_shared_layers": text.get("num_kv_shared_layers") or text["num_hidden_layers"]}


def _of_the_image(v: Values) -> dict[str, Any]:
    """Granite's Q-Former is as wide as the encoder of images."""
    width = v["vision_config"]["hidden_size"]
    widths = {"hidden_size": width, "num_attention_heads": width // 64, "encoder_hidden_size": width}
    return {**v["qformer_config"], **widths}


def _rotary_layers(v: Values) -> list[int]:
    """1 for each layer that rotates q and k, 0 for one of each interval, which doesn't."""
    return [int((i + 1) % v["no_rope_layer_interval"] != 0) for i in layers(v)]


_NO_LIST = fill("mlp_only_layers", lambda v: [])
_QWEN = (
    always("sliding_window", lambda v: v["sliding_window"] if v["use_sliding_window"] else None),
    kinds(_windowed),
)
_LINEAR_3_OF_4 = (kinds(period("full_attention_interval", 4), "linear_attention"),)
_DSA = (
    fill("indexer_types", _schedule),
    dense_first(lambda v: v["first_k_dense_replace"]),
    all_layers("indexed_attention"),
    always("n_routed_experts", lambda v: v["num_experts"]),
)
_GEMMA4 = (kinds(every(6)), always("layer_types", _last_is_full), fill("per_layer_config", _global_layers))
_ALL_SHARED = (always("text_config", lambda v: _all_shared(v["text_config"])),)
_T5 = (
    fill("num_decoder_layers", lambda v: v["num_layers"]),
    always("is_gated_act", lambda v: v["feed_forward_proj"].split("-")[0] == "gated"),
    always(
        "dense_act_fn",
        lambda v: (
            "gelu_new" if v["feed_forward_proj"] == "gated-gelu" else v["feed_forward_proj"].split("-")[-1]
        ),
    ),
    always("tie_word_embeddings", lambda v: True),
)
_SAM = (
    fill("downsample_channels", lambda v: [512, 896]),
    fill("mlp_dim", lambda v: int(v["hidden_size"] * v["mlp_ratio"])),
)
_SWA = (kinds(lambda v, i: i % 4 == 0),)
_GLM_ENDS = (fill("eos_token_id", lambda v: [151329, 151336, 151338]),)
_FALCON_HIDDEN = always("hidden_size", lambda v: v["n_embed"])

_DBRX_EXPERTS = {
    "ffn_hidden_size": 3584, "moe_num_experts": 4, "moe_top_k": 1, "ffn_act_fn": {"name": "silu"},
}  # fmt: skip

DERIVED: Mapping[str, tuple[Rule, ...]] = {
    "afmoe": (kinds(period("global_attn_every_n_layers")),),
    "bamba": (mamba_heads(_expanded),),
    "bloom": (_FALCON_HIDDEN,),
    "cohere2": (kinds(period("sliding_window_pattern", 4)),),
    "cohere2_moe": (
        fill("layer_types", _cohere2_moe_kinds),
        dense_first(lambda v: v.get("first_k_dense_replace", 0)),
    ),
    "dbrx": (
        always("attn_config", lambda v: {"kv_n_heads": 1} | (v.get("attn_config") or {})),
        always(
            "ffn_config",
            lambda v: _DBRX_EXPERTS | (v.get("ffn_config") or {}) | {"hidden_size": v["d_model"]},
        ),
        always("num_key_value_heads", lambda v: v["attn_config"]["kv_n_heads"]),
    ),
    "deepseek_ocr2_encoder": _QWEN,
    "deepseek_ocr2_sam_vision_model": _SAM,
    "deepseek_v32": _DSA[1:],
    "dots1": (kinds(_windowed),),
    "ernie4_5_moe": (
        always(
            "moe_layer_end_index",
            lambda v: (
                v["num_hidden_layers"] - 1 if v["moe_layer_end_index"] == -1 else v["moe_layer_end_index"]
            ),
        ),
    ),
    "exaone4": (kinds(period("sliding_window_pattern")),),
    "exaone_moe": (
        dense_first(lambda v: v["first_k_dense_replace"]),
        kinds(period("sliding_window_pattern")),
    ),
    "falcon": (
        _FALCON_HIDDEN,
        fill("num_kv_heads", lambda v: v["num_attention_heads"]),
        fill("ffn_hidden_size", lambda v: v["hidden_size"] * 4),
    ),
    "falcon_h1": (
        mamba_heads(lambda v: _expanded(v) if v.get("mamba_d_ssm") is None else v["mamba_d_ssm"]),
        fill("mlp_multipliers", lambda v: [1.0, 1.0]),
        fill("ssm_multipliers", lambda v: [1.0, 1.0, 1.0, 1.0, 1.0]),
    ),
    "falcon_mamba": (
        always("intermediate_size", lambda v: int(v["expand"] * v["hidden_size"])),
        rank("time_step_rank"),
    ),
    "gemma": (
        always("hidden_act", lambda v: "gelu_pytorch_tanh" if v["hidden_act"] == "gelu" else v["hidden_act"]),
    ),
    "gemma2": (kinds(every(2)),),
    "gemma3_text": (kinds(period("sliding_window_pattern", 6)),),
    "gemma3n_text": (
        always(
            "intermediate_size",
            lambda v: (
                v["intermediate_size"]
                if isinstance(v["intermediate_size"], list)
                else [v["intermediate_size"] for _ in layers(v)]
            ),
        ),
        kinds(every(5)),
        fill("activation_sparsity_pattern", _sparsity),
    ),
    "gemma4_text": _GEMMA4,
    "gemma4_unified_text": _GEMMA4,
    "gemma4_assistant": _ALL_SHARED,
    "gemma4_unified_assistant": _ALL_SHARED,
    "glm": _GLM_ENDS,
    "glm4": _GLM_ENDS,
    "glm4_moe_lite": (dense_first(lambda v: 1),),
    "glm5_next_text": (
        dense_first(lambda v: 3),
        kinds(every(4), "linear_attention", "indexed_attention"),
        fill("indexer_types", _schedule),
        FILLS["rotary head_dim, always"],
        FILLS["qk_head_dim"],
        *_LINEAR,
    ),
    "glm_moe_dsa": _DSA,
    "gpt_bigcode": (always("num_key_value_heads", lambda v: 1 if v["multi_query"] else v["n_head"]),),
    "gpt_oss": (kinds(every(2)),),
    "granite4_vision": (
        fill(
            "image_grid_pinpoints", lambda v: [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
        ),
        fill("spatial_target_layers", lambda v: [12, 15, 18, 21]),
        always("qformer_config", _of_the_image),
    ),
    "granite_speech_encoder": (fill("dim_head", lambda v: v["hidden_dim"] // v["num_heads"]),),
    "granite_speech_plus_encoder": (fill("dim_head", lambda v: v["hidden_dim"] // v["num_heads"]),),
    "granite_swa": _SWA,
    "granitemoe_swa": _SWA,
    "granitemoehybrid": (mamba_heads(_expanded), all_layers("linear_attention")),
    "hrm_text": (
        fill("L_bp_cycles", lambda v: [2]),
        fill("embedding_scale", lambda v: 1 / v.get("initializer_range", 0.02)),
        always(
            "num_hidden_layers",
            lambda v: (
                v["num_hidden_layers"] * v["H_cycles"] * (v["L_cycles"] + 1)
                if v.get("num_layers_per_stack") is None
                else v["num_hidden_layers"]
            ),
        ),
        fill(
            "num_layers_per_stack", lambda v: v["num_hidden_layers"] // (v["H_cycles"] * (v["L_cycles"] + 1))
        ),
    ),
    "hy_v3": (dense_first(lambda v: 1),),
    "hy_v4": (
        always("num_key_value_heads", lambda v: v["num_attention_heads"]),
        dense_first(lambda v: 1),
        all_layers("indexed_attention"),
        fill("indexer_types", lambda v: ["full" if i == 0 or i % 4 == 1 else "shared" for i in layers(v)]),
    ),
    "jamba": (rank("mamba_dt_rank"),),
    "kimi_linear": (
        *_LINEAR,
        fill("layer_types", _kimi_kinds),
        dense_first(lambda v: v.get("first_k_dense_replace", 1)),
    ),
    "laguna": (
        all_layers("full_attention"),
        dense_first(lambda v: 1),
        fill("num_attention_heads_per_layer", lambda v: [v["num_attention_heads"] for _ in layers(v)]),
    ),
    "lfm2": (
        fill("layer_types", _full_or_conv),
        always("tie_word_embeddings", _legacy_tie),
        always("intermediate_size", lambda v: v["block_ff_dim"]),
    ),
    "lfm2_moe": (always("tie_word_embeddings", _legacy_tie),),
    "lfm2_vl": (always("tie_word_embeddings", _legacy_tie),),
    "llama4_text": (
        always("no_rope_layers", lambda v: v.get("no_rope_layers") or _rotary_layers(v)),
        fill(
            "layer_types",
            lambda v: [
                "chunked_attention"
                if rotary and v.get("attention_chunk_size") is not None
                else "full_attention"
                for rotary in v["no_rope_layers"]
            ],
        ),
    ),
    "mamba": (
        always("intermediate_size", lambda v: int(v["expand"] * v["hidden_size"])),
        rank("time_step_rank"),
    ),
    "mamba2": (rank("time_step_rank"),),
    "mellum": (all_layers("full_attention"), all_layers("sparse", "mlp_layer_types")),
    "minicpm3": (
        fill("v_head_dim", lambda v: v["hidden_size"] // v["num_attention_heads"]),
        fill("scale_depth", lambda v: math.sqrt(v["num_hidden_layers"])),
        fill("dim_model_base", lambda v: v["hidden_size"]),
    ),
    "minimax": (kinds(every(2), "full_attention", "linear_attention"),),
    "minimax_m3_vl_text": (all_layers("full_attention"), all_layers("sparse", "mlp_layer_types")),
    "modernbert": (kinds(lambda v, i: i % v.get("global_attn_every_n_layers", 3) == 0),),
    "minicpmv4_6": (always("patch_size", lambda v: v["vision_config"]["patch_size"]),),
    "ministral": (kinds(lambda v, i: v.get("sliding_window") is None),),
    "mistral4": (always("head_dim", lambda v: v["qk_nope_head_dim"] + v["qk_rope_head_dim"]),),
    "mt5": _T5,
    "muse_glimmer_assistant": (
        all_layers("sliding_attention"),
        fill("target_layer_ids", lambda v: [1, 13, 25, 37, 49]),
    ),
    "muse_glimmer_text": (kinds(lambda v, i: (v["num_hidden_layers"] - 1 - i) % 4 == 0),),
    "muse_glimmer_vision": (
        kinds(lambda v, i: (i + 1) % 4 == 0 or i == v["num_hidden_layers"] - 1, "window_attention"),
    ),
    "olmo3": (kinds(every(4)),),
    "pocket_tts": (FILLS["head_dim"], FILLS["num_key_value_heads"]),
    "qwen2": _QWEN,
    "qwen2_5_vl_text": _QWEN,
    "qwen2_5_omni_text": _QWEN,
    "qwen2_moe": (
        _NO_LIST,
        always("sliding_window", lambda v: v["sliding_window"] if v["use_sliding_window"] else 0),
        kinds(
            lambda v, i: not (v["use_sliding_window"] and (i + 1) % 2 and i < v["max_window_layers"]),
        ),
    ),
    "qwen2_vl_text": _QWEN,
    "qwen3": _QWEN,
    "qwen3_5_moe_text": _LINEAR_3_OF_4,
    "qwen3_5_text": _LINEAR_3_OF_4,
    "qwen3_moe": (_NO_LIST, _QWEN[0]),
    "qwen3_next": (_NO_LIST, *_LINEAR_3_OF_4),
    "qwen3_omni_moe_text": (_NO_LIST,),
    "qwen3_vl_moe_text": (_NO_LIST,),
    "qwen4_exp_text": (
        always("ple_layer_ids", lambda v: sorted(set(v.get("ple_layer_ids") or []))),
        fill("ple_embed_dim", lambda v: v["hidden_size"]),
        kinds(period("full_attention_interval", 4), "linear_attention", "indexed_attention"),
    ),
    "smollm3": (fill("no_rope_layers", _rotary_layers), fill("layer_types", _smollm3_kinds)),
    "t5": _T5,
    "umt5": _T5,
    "voxtral": (always("hidden_size", lambda v: v["text_config"]["hidden_size"]),),
    "unlimited_ocr_sam_vision_model": _SAM,
    "unlimited_ocr_text": (
        fill(
            "layer_types",
            lambda v: [
                "full_attention" if v.get("sliding_window") is None else "reference_sliding_attention"
                for _ in layers(v)
            ],
        ),
        dense_first(lambda v: v.get("first_k_dense_replace", 1)),
    ),
}
"""Rules by model type, in the order in which they apply."""
