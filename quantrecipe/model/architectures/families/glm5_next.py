"""GLM 5.3 Flash: linear attention (KDA) in most layers, latent attention with an indexer in the others.

layer_types      "linear_attention", or latent attention, which rotates nothing here
indexer_types    "full": the layer has an indexer of its own, which pools index_kpool keys into one
hc_mult          residual streams, which each block mixes (hyper-connections, hc_*); draft heads have one
"""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.glm import VOCABULARY
from quantrecipe.model.architectures.families.kimi_linear import KDA, KDA_LENGTHS, KDA_RULES
from quantrecipe.model.architectures.families.qwen import EXPERTS_RULES
from quantrecipe.model.architectures.hyperparameters import LAYERS, SHARED_EXPERTS
from quantrecipe.model.architectures.layout import EXPERTS, HEAD, Layout, Part, Shapes, layers
from quantrecipe.model.architectures.rules import Found, change, exact, tied_output
from quantrecipe.model.architectures.shared.experts import (
    BIAS,
    DRAFT,
    DRAFT_NAMES,
    SHARED,
    beyond_layers,
    dense_count,
    dense_then_experts,
    draft_count,
    draft_pairs,
    drafts,
    with_drafts,
)
from quantrecipe.model.architectures.shared.latent_attention import LATENT, SPLIT, latent_pairs, queries
from quantrecipe.model.pairs import Pairs, boolean, booleans, f32, f32s, i32s, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.arithmetic import NegExp
from quantrecipe.model.source.source import TensorSource

__all__ = ["ALL"]

_LAYER_NORM = 1e-6  # of the indexer; config.json doesn't tell it
_LINEAR = "linear_attention"


def _kinds(config: Config) -> list[object]:
    kinds = config.per_layer(config.need(*LAYERS), "layer_types")
    if kinds is None:
        config.fail("has no layer_types (expected: a kind for each layer)")
    return list(kinds)


def _linear(config: Config) -> list[int]:
    return [layer for layer, kind in enumerate(_kinds(config)) if kind == _LINEAR]


def _latent(config: Config) -> list[int]:
    return [layer for layer, kind in enumerate(_kinds(config)) if kind != _LINEAR] + list(drafts(config))


def _indexed(config: Config) -> list[int]:
    """Layers with an indexer of their own: all with latent attention where config.json doesn't tell."""
    kinds = config.per_layer(config.need(*LAYERS), "indexer_types")
    return [i for i in _latent(config) if kinds is None or i >= len(kinds) or kinds[i] == "full"]


def _pairs(config: Config) -> Pairs:
    arch, count = "glm5-next", with_drafts(config)
    linear, kda = _linear(config), config.part("linear_attn_config")
    tail, limit = config.flag("index_kpool_always_select_tail"), config.number("swiglu_limit")
    pairs: Pairs = {
        f"{arch}.attention.head_count_kv": i32s([int(layer not in linear) for layer in range(count)]),
        f"{arch}.vocab_size": u32(config.need("vocab_size")),
        f"{arch}.attention.layer_norm_epsilon": f32(_LAYER_NORM),
    }
    if draft_count(config):
        pairs |= draft_pairs(arch, config)
    pairs[f"{arch}.ssm.conv_kernel"] = u32(kda.need("short_conv_kernel_size"))
    pairs[f"{arch}.kda.head_dim"] = u32(kda.need("head_dim"))
    if (bound := kda.number("gate_lower_bound")) is not None:
        pairs[f"{arch}.kda.gate_lower_bound"] = f32(bound)
    lengths = latent_pairs(arch, config)
    for name in ("q_lora_rank", "kv_lora_rank"):
        pairs[f"{arch}.attention.{name}"] = lengths.pop(f"{arch}.attention.{name}")
    pairs[f"{arch}.rope.dimension_count"] = u32(0)
    pairs |= lengths | {
        f"{arch}.attention.indexer.head_count": u32(config.need("index_n_heads")),
        f"{arch}.attention.indexer.key_length": u32(config.need("index_head_dim")),
        f"{arch}.attention.indexer.top_k": u32(config.need("index_topk")),
        f"{arch}.attention.indexer.kpool": u32(config.need("index_kpool")),
        f"{arch}.attention.indexer.kpool_select_tail": boolean(tail is not False),
    }
    kinds = config.find("indexer_types")
    if isinstance(kinds, list):
        pairs[f"{arch}.attention.indexer.types"] = booleans(kind == "full" for kind in kinds)
    pairs |= {
        f"{arch}.hyper_connection.count": u32(config.need("hc_mult")),
        f"{arch}.hyper_connection.sinkhorn_iterations": u32(config.need("hc_sinkhorn_iters")),
        f"{arch}.hyper_connection.epsilon": f32(config.number("hc_eps") or 0.0),
        f"{arch}.leading_dense_block_count": u32(dense_count(config)),
        f"{arch}.expert_feed_forward_length": u32(config.need("moe_intermediate_size")),
        f"{arch}.expert_shared_count": u32(config.need(*SHARED_EXPERTS)),
        f"{arch}.expert_weights_scale": f32(config.number("routed_scaling_factor") or 1.0),
        f"{arch}.expert_weights_norm": boolean(config.flag("norm_topk_prob") is True),
    }
    if limit is not None:
        pairs[f"{arch}.swiglu_clamp_exp"] = pairs[f"{arch}.swiglu_clamp_shexp"] = f32s([limit] * count)
    return pairs


def _refuse(config: Config) -> str | None:
    """Why a model can't be converted: what llama.cpp's GLM 5.3 has no code for."""
    if config.count("qk_rope_head_dim") or config.flag("mla_use_nope") is False:
        return "rotates keys of its latent attention, which llama.cpp doesn't for this architecture"
    if config.flag("mhc") is False:
        return "has a single residual stream (mhc), which llama.cpp doesn't have for this architecture"
    return None


def _left_out(config: Config, name: str) -> bool:
    return tied_output(config, name) or (not draft_count(config) and beyond_layers(config, name))


def _forgetting(it: Found) -> TensorSource:
    """-exp(A_log), one number for each head."""
    made = NegExp(source=it.source)
    return layout.reshape(made, (it.config.need("num_attention_heads"),))


_MIX, _STREAMS = "2 · hc_mult + hc_mult · hc_mult", "hc_mult · hidden_size"
_HYPER: Shapes = {
    f"hc_{block}_{name}.weight": shape
    for block in ("attn", "ffn")
    for name, shape in {"fn": (_MIX, _STREAMS), "base": (_MIX,), "scale": ("3",)}.items()
}
_INDEXER: Shapes = layers(
    {
        "indexer.k_norm.weight": ("index_head_dim",),
        "indexer.k_norm.bias": ("index_head_dim",),
        "indexer.proj.weight": ("index_n_heads", "hidden_size"),
        "indexer.attn_k.weight": ("index_head_dim", "hidden_size"),
        "indexer.attn_q_b.weight": ("index_n_heads · index_head_dim", "q_lora_rank"),
        "indexer_compressor_gate.weight": ("index_head_dim", "hidden_size"),
        "indexer_compressor_ape.weight": ("index_kpool", "index_head_dim"),
    }
)
_LAYER = "model.layers.{layer}"

GLM5_NEXT = Architecture(
    name="glm5-next",
    classes=("Glm5NextForConditionalGeneration",),
    vocabulary=VOCABULARY,
    layout=Layout(
        required={
            "token_embd.weight": ("vocab_size", "hidden_size"),
            "output_norm.weight": ("hidden_size",),
            **HEAD,
            **layers({"attn_norm.weight": ("hidden_size",), "ffn_norm.weight": ("hidden_size",)}),
        },
        parts=(
            Part(where=lambda config: range(config.need(*LAYERS)), required=layers(_HYPER)),
            Part(where=_linear, required=KDA | layers({"ssm_a": ("num_attention_heads",)})),
            Part(where=_latent, required=LATENT),
            Part(where=_indexed, required=_INDEXER),
            *queries(_latent),
            *dense_then_experts({}, required=EXPERTS | BIAS | SHARED, count=with_drafts),
            DRAFT,
        ),
    ),
    adjust=lambda values: {name: it for name, it in values.items() if name != "head_dim"},
    refuse=_refuse,
    layers=with_drafts,
    leaves_out=_left_out,
    pairs=_pairs,
    rules=(
        SPLIT,
        *EXPERTS_RULES,
        change(_LAYER + ".self_attn.A_log", _forgetting),
        *KDA_RULES,
        change(_LAYER + ".self_attn.indexer.index_kpool_compress_{part:gate|ape}", exact),
        change(_LAYER + ".hc_{block:attn|ffn}_{part:fn|base|scale}", exact),
    ),
    names_of="kimi-linear",  # whose layers have the same tensors but for these
    names={
        **DRAFT_NAMES,
        **{f"{_LAYER}.{name.removesuffix('.weight')}": f"blk.{{layer}}.{name}" for name in _HYPER},
        f"{_LAYER}.self_attn.indexer.k_norm": "blk.{layer}.indexer.k_norm",
        f"{_LAYER}.self_attn.indexer.weights_proj": "blk.{layer}.indexer.proj",
        f"{_LAYER}.self_attn.indexer.wk": "blk.{layer}.indexer.attn_k",
        f"{_LAYER}.self_attn.indexer.wq_b": "blk.{layer}.indexer.attn_q_b",
        **{
            f"{_LAYER}.self_attn.indexer.index_kpool_compress_{name}{end}": (
                f"blk.{{layer}}.indexer_compressor_{name}.weight"
            )
            for name in ("gate", "ape")
            for end in ("", ".weight")
        },
    },
    lengths={**KDA_LENGTHS, "qk_rope_head_dim": lambda config, _: 0},
)

ALL = (GLM5_NEXT,)
