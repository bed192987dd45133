"""OpenBMB's MiniCPM: Llama with scaled embeddings, residuals and logits; and MiniCPM 3 with latent attention.

MiniCPM 3's attention is DeepSeek's: q, and k with v, go through a low rank. llama.cpp takes its matrices as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.llama import ROTARY
from quantrecipe.model.architectures.hyperparameters import (
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    count_pairs,
    head_dim,
    number_pairs,
)
from quantrecipe.model.architectures.layout import DENSE, HEAD, Layout, attention, biases, layers
from quantrecipe.model.architectures.rope import longrope_factors
from quantrecipe.model.pairs import Pairs, f32, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_VOCABULARY = Vocabulary(kinds=("sentencepiece",))

_FACTORS = {
    "rope_factors_long.weight": ("turning / 2",),
    "rope_factors_short.weight": ("turning / 2",),
}


def _needed(config: Config, name: str) -> float:
    number = config.number(name)
    if not number:
        config.fail(f"has no {name} (expected: a number other than 0)")
    return number


def _scales(config: Config) -> Pairs:
    depth = _needed(config, "scale_depth") / config.need(*LAYERS) ** 0.5
    return {
        "minicpm.embedding_scale": f32(_needed(config, "scale_emb")),
        "minicpm.residual_scale": f32(depth),
        "minicpm.logit_scale": f32(config.need(*HIDDEN) / _needed(config, "dim_model_base")),
    }


MINICPM = Architecture(
    name="minicpm",
    classes=("MiniCPMForCausalLM",),
    layout=Layout(
        required=attention() | DENSE,
        optional={
            **HEAD,
            **_FACTORS,
            **biases(),
            **layers(
                {
                    "attn_output.bias": ("hidden_size",),
                    "ffn_gate.bias": ("intermediate_size",),
                    "ffn_up.bias": ("intermediate_size",),
                    "ffn_down.bias": ("hidden_size",),
                }
            ),
        },
    ),
    lengths={"turning / 2": lambda config, layer: head_dim(config) // 2},
    default_theta=None,
    rules=ROTARY,
    pairs=_scales,
    vocabulary=_VOCABULARY,
    computed=lambda config: longrope_factors(config, config.need(*HIDDEN) // config.need(*HEADS)),
)

_LATENT = layers(
    {
        "attn_norm.weight": ("hidden_size",),
        "attn_q_a.weight": ("q_lora_rank", "hidden_size"),
        "attn_q_a_norm.weight": ("q_lora_rank",),
        "attn_q_b.weight": (
            "num_attention_heads · qk_nope_head_dim + num_attention_heads · qk_rope_head_dim",
            "q_lora_rank",
        ),
        "attn_kv_a_mqa.weight": ("kv_lora_rank + qk_rope_head_dim", "hidden_size"),
        "attn_kv_a_norm.weight": ("kv_lora_rank",),
        "attn_kv_b.weight": ("num_attention_heads · qk_nope_head_dim + hidden_size", "kv_lora_rank"),
        "attn_output.weight": ("hidden_size", "hidden_size"),
        "ffn_norm.weight": ("hidden_size",),
    }
)
"""A value's length is hidden_size / num_attention_heads, which makes hidden_size for all heads."""


def _minicpm3_pairs(config: Config) -> Pairs:
    """All keys, which stand behind general.file_type."""
    counts = {
        "context_length": ("max_position_embeddings",),
        "embedding_length": HIDDEN,
        "block_count": LAYERS,
        "feed_forward_length": ("intermediate_size",),
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
    }
    ranks = {
        "vocab_size": ("vocab_size",),
        "attention.q_lora_rank": ("q_lora_rank",),
        "attention.kv_lora_rank": ("kv_lora_rank",),
    }
    turning = config.need("qk_rope_head_dim")
    return (
        count_pairs("minicpm3", config, counts)
        | number_pairs("minicpm3", config, {"attention.layer_norm_rms_epsilon": ("rms_norm_eps",)})
        | count_pairs("minicpm3", config, ranks)
        | {
            "minicpm3.attention.key_length": u32(config.need("qk_nope_head_dim") + turning),
            "minicpm3.rope.dimension_count": u32(turning),
        }
    )


def _nothing(arch: str, config: Config) -> Pairs:
    return {}


def _minicpm3_factors(config: Config) -> Mapping[str, bytes]:
    return longrope_factors(config, config.need("qk_rope_head_dim"))


MINICPM3 = Architecture(
    name="minicpm3",
    classes=("MiniCPM3ForCausalLM",),
    layout=Layout(
        required={"token_embd.weight": ("vocab_size", "hidden_size"), "output_norm.weight": ("hidden_size",)}
        | _LATENT
        | DENSE,
        optional=HEAD | _FACTORS,
    ),
    lengths={"turning / 2": lambda config, layer: config.need("qk_rope_head_dim") // 2},
    default_theta=None,
    common=_nothing,
    pairs=_minicpm3_pairs,
    vocabulary=_VOCABULARY,
    computed=_minicpm3_factors,
)

ALL = (MINICPM, MINICPM3)
