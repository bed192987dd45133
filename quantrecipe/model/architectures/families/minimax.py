"""MiniMax M2 and M3, which rotate a part of each head.

minimax-m2    experts in every layer, norms on q and k over all heads together
minimax-m3    dense layers first, experts for every token, norms on q and k of each head; in layers with experts an
              index that chooses the blocks of text to attend to. Norms are stored as what is added to 1.
"""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import LAYERS, SHARED_EXPERTS
from quantrecipe.model.architectures.layout import (
    EXPERTS,
    HEAD,
    KV,
    QK_NORMS,
    Layout,
    Q,
    attention,
    layers,
)
from quantrecipe.model.architectures.rules import change, exact, plus_one
from quantrecipe.model.architectures.shared.experts import BIAS, SHARED, W_EXPERTS, dense_then_experts
from quantrecipe.model.pairs import Pairs, boolean, f32, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_VOCABULARY = Vocabulary(kinds=("bpe",), pre=("minimax-m2",))


def _m2_pairs(arch: str, config: Config) -> Pairs:
    return {
        f"{arch}.expert_feed_forward_length": u32(config.need("intermediate_size")),
        f"{arch}.rope.dimension_count": u32(config.need("rotary_dim")),
    }


MINIMAX_M2 = Architecture(
    name="minimax-m2",
    classes=("MiniMaxM2ForCausalLM",),
    vocabulary=_VOCABULARY,
    layout=Layout(
        required=attention()
        | HEAD
        | EXPERTS
        | BIAS
        | layers({"attn_q_norm.weight": (Q,), "attn_k_norm.weight": (KV,)}),
    ),
    rules=W_EXPERTS,
    lengths={"moe_intermediate_size": lambda config, _: config.need("intermediate_size")},
    pairs=lambda config: _m2_pairs("minimax-m2", config),
)


def _index(config: Config) -> Config:
    """The settings of the attention to chosen blocks."""
    return config.part("sparse_attention_config")


def _m3_dense(config: Config) -> int:
    """How many layers come before the first one with experts."""
    kinds = config.counts(config.need(*LAYERS), "moe_layer_freq")
    return next((layer for layer, kind in enumerate(kinds) if kind), len(kinds))


def _m3_pairs(config: Config) -> Pairs:
    arch, index = "minimax-m3", _index(config)
    return _m2_pairs(arch, config) | {
        f"{arch}.expert_shared_count": u32(config.need(*SHARED_EXPERTS)),
        f"{arch}.expert_weights_scale": f32(config.number("routed_scaling_factor") or 1.0),
        f"{arch}.expert_weights_norm": boolean(True),
        f"{arch}.attention.indexer.head_count": u32(index.need("sparse_num_index_heads")),
        f"{arch}.attention.indexer.key_length": u32(index.need("sparse_index_dim")),
        f"{arch}.attention.indexer.top_k": u32(index.need("sparse_topk_blocks")),
        f"{arch}.attention.indexer.block_size": u32(index.need("sparse_block_size")),
        f"{arch}.attention.indexer.local_blocks": u32(index.count("sparse_local_block") or 0),
        f"{arch}.leading_dense_block_count": u32(_m3_dense(config)),
    }


MINIMAX_M3 = Architecture(
    name="minimax-m3",
    classes=("MiniMaxM3SparseForCausalLM", "MiniMaxM3SparseForConditionalGeneration"),
    vocabulary=_VOCABULARY,
    layout=Layout(
        required=attention() | HEAD | QK_NORMS,
        parts=dense_then_experts(
            {},
            required=EXPERTS
            | BIAS
            | SHARED
            | layers(
                {
                    "indexer.q_proj.weight": ("index_heads · index_dim", "hidden_size"),
                    "indexer.k_proj.weight": ("index_dim", "hidden_size"),
                    "indexer.q_norm.weight": ("index_dim",),
                    "indexer.k_norm.weight": ("index_dim",),
                }
            ),
            dense=_m3_dense,
        ),
    ),
    rules=(
        *W_EXPERTS,
        change("{stem:*}norm.weight", plus_one),
        change("model.layers.{layer}.self_attn.index_{matrix:q|k}_proj.weight", exact),
    ),
    names_of="minimax-m2",  # whose layers have the same tensors but for these
    names={
        **{
            f"model.layers.{{layer}}.self_attn.index_{name}": f"blk.{{layer}}.indexer.{name}"
            for name in ("q_proj", "k_proj", "q_norm", "k_norm")
        },
        **{
            f"model.layers.{{layer}}.mlp.{name}_proj": f"blk.{{layer}}.ffn_{name}"
            for name in ("gate", "up", "down")
        },
        **{
            f"model.layers.{{layer}}.block_sparse_moe.shared_experts.{name}_proj": f"blk.{{layer}}.ffn_{name}_shexp"
            for name in ("gate", "up", "down")
        },
    },
    lengths={
        "moe_intermediate_size": lambda config, _: config.need("intermediate_size"),
        "index_heads": lambda config, _: _index(config).need("sparse_num_index_heads"),
        "index_dim": lambda config, _: _index(config).need("sparse_index_dim"),
    },
    pairs=_m3_pairs,
)

ALL = (MINIMAX_M2, MINIMAX_M3)
