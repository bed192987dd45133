"""Ling and Ring, from inclusionAI, which call themselves Bailing; and Sarvam, whose layers are those of Ling 2.

bailingmoe     Ling lite and plus: Llama's attention from one matrix, experts in each layer
bailingmoe2    Ling 2 and Ring 2: norms on q and k, which stay in one matrix with v; a bias in choosing experts
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.qwen import EXPERTS_RULES
from quantrecipe.model.architectures.hyperparameters import (
    SHARED_EXPERTS,
    head_dim,
    number_pairs,
)
from quantrecipe.model.architectures.layout import (
    EXPERTS,
    HEAD,
    KV,
    QK_NORMS,
    Layout,
    Q,
    Shapes,
    attention,
    layers,
)
from quantrecipe.model.architectures.rope import rotated
from quantrecipe.model.architectures.rules import (
    Each,
    Found,
    Named,
    change,
    language_name,
    query_key_value,
    rename,
)
from quantrecipe.model.architectures.shared.experts import (
    BIAS,
    SHARED,
    dense_count,
    dense_then_experts,
    draft_pairs,
    draft_part,
    drafts,
    with_drafts,
)
from quantrecipe.model.pairs import Pairs, boolean, f32, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.arithmetic import Whole
from quantrecipe.model.source.source import TensorSource
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_HALF = 0.5
"""The part of a head that is rotated, where config.json doesn't tell it."""


def _bailingmoe_pairs(config: Config) -> Pairs:
    return {
        "bailingmoe.rope.dimension_count": u32(head_dim(config)),
        "bailingmoe.leading_dense_block_count": u32(dense_count(config)),
        "bailingmoe.vocab_size": u32(config.need("vocab_size")),
        "bailingmoe.expert_feed_forward_length": u32(config.need("moe_intermediate_size")),
        "bailingmoe.expert_weights_scale": f32(1.0),
        "bailingmoe.expert_shared_count": u32(config.need(*SHARED_EXPERTS)),
        "bailingmoe.expert_weights_norm": boolean(config.flag("norm_topk_prob") is True),
    }


def _separate(it: Found) -> list[Named]:
    """Rows of q, k and v, which are one matrix in the checkpoint, in the order of llama.cpp's llama."""
    q, k, v = query_key_value(it)
    return [
        (f"blk.{it.layer}.attn_q.weight", layout.rope_order(q, it.config.need("num_attention_heads"))),
        (f"blk.{it.layer}.attn_k.weight", layout.rope_order(k, it.config.need("num_key_value_heads"))),
        (f"blk.{it.layer}.attn_v.weight", v),
    ]


def _refuse(config: Config) -> str | None:
    """Why a model can't be converted: an output that is brought to unit length column by column is no plain matrix."""
    if config.flag("norm_head"):
        return "normalizes its output (norm_head), which isn't done here"
    return None


BAILINGMOE = Architecture(
    name="bailingmoe",
    vocabulary=Vocabulary(kinds=("bpe",), pre=("bailingmoe",)),
    classes=("BailingMoeForCausalLM",),
    layout=Layout(required=attention() | HEAD | EXPERTS | SHARED),
    pairs=_bailingmoe_pairs,
    refuse=_refuse,
    rules=(
        Each(names="model.layers.{layer}.attention.query_key_value.weight", make=_separate),
        rename("model.layers.{layer}.attention.dense.weight", "blk.{layer}.attn_output.weight"),
        *EXPERTS_RULES,
    ),
)

_SHARED_LENGTH = "moe_shared_expert_intermediate_size"
_SHARED: Shapes = layers(
    {
        "ffn_gate_shexp.weight": ("shared", "hidden_size"),
        "ffn_up_shexp.weight": ("shared", "hidden_size"),
        "ffn_down_shexp.weight": ("hidden_size", "shared"),
    }
)
_ATTENTION: Shapes = {
    "token_embd.weight": ("vocab_size", "hidden_size"),
    "output_norm.weight": ("hidden_size",),
    **layers(
        {
            "attn_norm.weight": ("hidden_size",),
            "attn_qkv.weight": (f"hidden_size + 2 · {KV}", "hidden_size"),
            "attn_output.weight": ("hidden_size", Q),
            "ffn_norm.weight": ("hidden_size",),
        }
    ),
}


def _shared_length(config: Config, layer: int) -> int:
    length = config.count(_SHARED_LENGTH) or config.need("moe_intermediate_size")
    return length * (config.count(*SHARED_EXPERTS) or 0)


def _bailingmoe2_pairs(config: Config) -> Pairs:
    arch, length = "bailingmoe2", config.need("moe_intermediate_size")
    shared = config.need(*SHARED_EXPERTS)
    given = config.count(_SHARED_LENGTH)
    pairs: Pairs = {
        f"{arch}.rope.dimension_count": u32(rotated(config, head_dim(config), _HALF)),
        f"{arch}.leading_dense_block_count": u32(dense_count(config)),
        f"{arch}.vocab_size": u32(config.need("vocab_size")),
        f"{arch}.expert_feed_forward_length": u32(length),
        f"{arch}.expert_shared_feed_forward_length": u32(length * shared if given is None else given),
    }
    pairs |= number_pairs(arch, config, {"expert_weights_scale": ("routed_scaling_factor",)})
    pairs[f"{arch}.expert_shared_count"] = u32(shared)
    pairs[f"{arch}.expert_weights_norm"] = boolean(config.flag("norm_topk_prob") is True)
    return pairs | draft_pairs(arch, config)


def _bias_name(name: str) -> str | None:
    """The bias in choosing experts is called as if it were a module."""
    found = language_name(name)
    return f"{found}.bias" if found is not None and found.endswith(".expert_bias") else found


BAILINGMOE2 = Architecture(
    name="bailingmoe2",
    vocabulary=Vocabulary(kinds=("bpe",), pre=("bailingmoe2",)),
    classes=("BailingMoeV2ForCausalLM",),
    layout=Layout(
        required=_ATTENTION | HEAD | QK_NORMS,
        parts=(
            *dense_then_experts(BIAS, required=EXPERTS | _SHARED, count=with_drafts),
            draft_part(drafts, layers({"layer_output_norm.weight": ("hidden_size",)})),
        ),
        drafts=drafts,
    ),
    layers=with_drafts,
    pairs=_bailingmoe2_pairs,
    rename=_bias_name,
    rules=EXPERTS_RULES,
    lengths={"shared": _shared_length},
)


def _sarvam_pairs(config: Config) -> Pairs:
    return _bailingmoe2_pairs(config) | {"bailingmoe2.rope.dimension_count": u32(head_dim(config))}


def _without_mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    centred: NDArray[np.float32] = values - np.float32(values.mean())
    return centred


def _centred(it: Found) -> TensorSource:
    return Whole(function=_without_mean, sources=(it.source,), becomes=it.source.shape)


SARVAM = replace(
    BAILINGMOE2,
    classes=("SarvamMoEForCausalLM", "modeling_sarvam_moe.SarvamMoEForCausalLM"),
    vocabulary=Vocabulary(kinds=("bpe",), pre=("sarvam-moe",)),
    pairs=_sarvam_pairs,
    rules=(change("model.layers.{layer}.mlp.gate.expert_bias.bias", _centred), *EXPERTS_RULES),
)

ALL = (BAILINGMOE, BAILINGMOE2, SARVAM)
