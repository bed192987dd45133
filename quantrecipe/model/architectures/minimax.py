"""MiniMax M2: experts in every layer, norms on q and k over all heads together, rotation of a part of each head."""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.experts import BIAS, W_EXPERTS
from quantrecipe.model.architectures.layout import EXPERTS, HEAD, KV, Layout, Q, attention, layers
from quantrecipe.model.pairs import Pairs, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]


def _pairs(config: Config) -> Pairs:
    return {
        "minimax-m2.expert_feed_forward_length": u32(config.need("intermediate_size")),
        "minimax-m2.rope.dimension_count": u32(config.need("rotary_dim")),
    }


MINIMAX_M2 = Architecture(
    name="minimax-m2",
    vocabulary=Vocabulary(kinds=("bpe",), pre=("minimax-m2",)),
    classes=("MiniMaxM2ForCausalLM",),
    layout=Layout(
        required=attention()
        | HEAD
        | EXPERTS
        | BIAS
        | layers({"attn_q_norm.weight": (Q,), "attn_k_norm.weight": (KV,)}),
    ),
    rules=W_EXPERTS,
    lengths={"moe_intermediate_size": lambda config, _: config.need("intermediate_size")},
    pairs=_pairs,
)

ALL = (MINIMAX_M2,)
