"""rednote's dots.llm1: Qwen 3's attention, a dense layer or more, and experts as DeepSeek has them behind these."""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.qwen import EXPERTS_RULES
from quantrecipe.model.architectures.hyperparameters import count_pairs, number_pairs
from quantrecipe.model.architectures.layout import (
    EXPERTS,
    HEAD,
    QK_NORMS,
    Layout,
    Q,
    attention,
    biases,
    layers,
)
from quantrecipe.model.architectures.shared.experts import (
    BIAS,
    COUNTS,
    SHARED,
    dense_count,
    dense_then_experts,
)
from quantrecipe.model.pairs import Pairs, boolean, u32

__all__ = ["ALL"]

_ALL_HEADS = layers({"attn_k.weight": (Q, "hidden_size"), "attn_v.weight": (Q, "hidden_size")})
"""llama.cpp takes as many heads of keys and values as there are of queries."""


def _pairs(config: Config) -> Pairs:
    length, shared = COUNTS["expert_feed_forward_length"], COUNTS["expert_shared_count"]
    return (
        count_pairs("dots1", config, {"expert_feed_forward_length": length})
        | {"dots1.leading_dense_block_count": u32(dense_count(config))}
        | count_pairs("dots1", config, {"expert_shared_count": shared})
        | number_pairs("dots1", config, {"expert_weights_scale": ("routed_scaling_factor",)})
        | {"dots1.expert_weights_norm": boolean(bool(config.flag("norm_topk_prob")))}
    )


DOTS1 = Architecture(
    name="dots1",
    classes=("Dots1ForCausalLM",),
    layout=Layout(
        required=attention() | _ALL_HEADS | QK_NORMS | HEAD,
        optional=biases(),
        parts=dense_then_experts(BIAS, EXPERTS | SHARED),
    ),
    rules=EXPERTS_RULES,
    pairs=_pairs,
)

ALL = (DOTS1,)
