"""Hy 4, from Tencent: latent attention with a gate and sinks, an indexer in some layers, several residual streams.

    indexer_types    "full": the layer has an indexer (DSA); "shared": it sees the tokens that the last such layer chose
    hc_mult          residual streams, which each block mixes (hyper-connections, hc_*)

llama.cpp's converter leaves the draft heads out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.deepseek import (
    DEEPSEEK2,
    INDEXER,
    TRUNK,
    deepseek2_pairs,
    indexer_pairs,
    yarn_pairs,
)
from quantrecipe.model.architectures.hyperparameters import LAYERS
from quantrecipe.model.architectures.layout import EXPERTS as ROUTED
from quantrecipe.model.architectures.layout import HEAD, Layout, Part, Shapes, layers
from quantrecipe.model.architectures.rules import change, exact, language_name
from quantrecipe.model.architectures.shared.experts import BIAS, SHARED, dense_then_experts
from quantrecipe.model.architectures.shared.latent_attention import LATENT, one_key_value_head, queries
from quantrecipe.model.pairs import Pairs, booleans, f32, f32s, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_SIGMOID = 2  # llama.cpp: enum llama_expert_gating_func_type
_SPARSE = ("sparse_attention", "deepseek_sparse_attention")
"""What older configurations call layers with an indexer."""


def _indexers(config: Config) -> list[bool] | None:
    """Which layers have an indexer of their own; None for a model without."""
    count = config.need(*LAYERS)
    if (kinds := config.per_layer(count, "indexer_types")) is not None:
        if unknown := {str(kind) for kind in kinds} - {"full", "shared"}:
            config.fail(f"says indexer_types: {sorted(unknown)} (expected: full or shared)")
        return [kind == "full" for kind in kinds]
    kinds = config.per_layer(count, "layer_types") or ()
    return [kind in _SPARSE for kind in kinds] if any(kind in _SPARSE for kind in kinds) else None


def _dense_count(values: Mapping[str, Any]) -> Any:
    """The number of dense layers, where config.json only lists kinds of layers."""
    kinds = values.get("mlp_layer_types")
    if not isinstance(kinds, list):
        return None
    return next((place for place, kind in enumerate(kinds) if kind != "dense"), len(kinds))


def _adjust(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """One group of experts is none, and has no keys."""
    adjusted = one_key_value_head(values)
    if values.get("n_group") == values.get("topk_group") == 1:
        return {name: it for name, it in adjusted.items() if name not in ("n_group", "topk_group")}
    return adjusted


def _pairs(config: Config) -> Pairs:
    arch = "hy_v4"
    pairs = deepseek2_pairs(arch, config) | yarn_pairs(arch, config)
    pairs[f"{arch}.expert_gating_func"] = u32(_SIGMOID)
    if (limit := config.number("swiglu_limit")) is not None and limit > 0:
        pairs[f"{arch}.swiglu_clamp_exp"] = f32s([limit] * config.need(*LAYERS))
    pairs[f"{arch}.hyper_connection.count"] = u32(config.need("hc_mult"))
    pairs[f"{arch}.hyper_connection.epsilon"] = f32(config.number("hc_eps") or 0.0)
    pairs[f"{arch}.hyper_connection.magnitude"] = f32(config.number("hc_magnitude") or 0.0)
    if (full := _indexers(config)) is not None:
        pairs |= indexer_pairs(arch, config)
        pairs[f"{arch}.attention.indexer.types"] = booleans(full)
    return pairs


def _rename(name: str) -> str | None:
    return None if name.startswith("model.mtp_layers.") else language_name(name)


_STREAMS = "hc_mult · hidden_size"
_HYPER: Shapes = {
    f"hc_{block}_{name}.weight": shape
    for block in ("attn", "ffn")
    for name, shape in {"fn": ("2 · hc_mult", _STREAMS), "base": ("2 · hc_mult",), "scale": ("2",)}.items()
}
_LAYER = "model.layers.{layer}"

HY4 = replace(
    DEEPSEEK2,
    name="hy_v4",
    classes=("HYV4ForCausalLM",),
    vocabulary=Vocabulary(kinds=("bpe", "tiktoken"), pre=("hy_v4",)),
    layout=Layout(
        required={
            **TRUNK,
            **LATENT,
            **HEAD,
            "output_hc_fn.weight": ("hc_mult", _STREAMS),
            "output_hc_base.weight": ("hc_mult",),
            "output_hc_scale.weight": ("1",),
            **layers(
                {
                    **_HYPER,
                    "attn_sinks.weight": ("num_attention_heads",),
                    "attn_gate.weight": ("num_attention_heads · v_head_dim", "hidden_size"),
                }
            ),
        },
        parts=(
            *queries(),
            *dense_then_experts(BIAS, required=ROUTED | SHARED),
            Part(
                where=lambda config: [i for i, full in enumerate(_indexers(config) or ()) if full],
                required=INDEXER,
            ),
        ),
    ),
    derive={**DEEPSEEK2.derive, "first_k_dense_replace": _dense_count},
    adjust=_adjust,
    pairs=_pairs,
    rename=_rename,
    rules=(
        *DEEPSEEK2.rules,
        change("model.hc_head.hc_head_fn", exact),
        change("model.layers.{layer}.hc_{block:attn|mlp}_layer.hc_pre.hc_fn", exact),
    ),
    names_of="glm-dsa",
    names={
        "model.hc_head.hc_head_fn": "output_hc_fn.weight",
        "model.hc_head.hc_head_base": "output_hc_base.weight",
        "model.hc_head.hc_head_scale": "output_hc_scale.weight",
        **{
            f"{_LAYER}.hc_{stored}_layer.hc_pre.hc_{part}": f"blk.{{layer}}.hc_{name}_{part}.weight"
            for stored, name in {"attn": "attn", "mlp": "ffn"}.items()
            for part in ("fn", "base", "scale")
        },
        f"{_LAYER}.self_attn.learnable_sink_param": "blk.{layer}.attn_sinks.weight",
        **{f"{_LAYER}.self_attn.{name}": "blk.{layer}.attn_gate" for name in ("gate_proj", "linear_gate")},
    },
)

ALL = (HY4,)
