"""Kimi Linear: three of four layers have Kimi delta attention (KDA), which is linear; the others latent attention.

linear_attn_config.full_attn_layers    numbers of the layers with latent attention, counted from 1
q_conv1d, k_conv1d, v_conv1d           (width, 1, taps) → (1, width, 1, taps)
A_log                                  → -exp(A_log): how fast each head forgets
"""

from __future__ import annotations

from collections.abc import Mapping

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import LAYERS, SHARED_EXPERTS, count_pairs
from quantrecipe.model.architectures.layout import EXPERTS, HEAD, Layout, Length, Part, Shapes, layers
from quantrecipe.model.architectures.rules import Found, Rule, change, rename
from quantrecipe.model.architectures.shared.experts import (
    BIAS,
    SHARED,
    W_EXPERTS,
    dense_count,
    dense_then_experts,
)
from quantrecipe.model.architectures.shared.latent_attention import (
    LATENT,
    SPLIT,
    latent_pairs,
    one_key_value_head,
    queries,
)
from quantrecipe.model.pairs import Pairs, f32, i32s, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.arithmetic import NegExp
from quantrecipe.model.source.source import TensorSource, fail
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL", "KDA", "KDA_LENGTHS", "KDA_RULES", "convolution"]

_ATTENTION = "model.layers.{layer}.self_attn"


def _linear(config: Config) -> Config:
    """The settings of the linear attention."""
    return config.part("linear_attn_config")


def _latent_layers(config: Config) -> list[int]:
    numbers = _linear(config).find("full_attn_layers")
    if not isinstance(numbers, list):
        config.fail("has no full_attn_layers in linear_attn_config (expected: a list of numbers)")
    return [layer for layer in range(config.need(*LAYERS)) if layer + 1 in numbers]


def _linear_layers(config: Config) -> list[int]:
    latent = _latent_layers(config)
    return [layer for layer in range(config.need(*LAYERS)) if layer not in latent]


def _pairs(config: Config) -> Pairs:
    arch, latent = "kimi-linear", _latent_layers(config)
    pairs: Pairs = {
        f"{arch}.vocab_size": u32(config.need("vocab_size")),
        f"{arch}.attention.head_count_kv": i32s([int(i in latent) for i in range(config.need(*LAYERS))]),
    }
    table = {"ssm.conv_kernel": ("short_conv_kernel_size",), "kda.head_dim": ("head_dim",)}
    pairs |= count_pairs(arch, _linear(config), table)
    lengths = latent_pairs(arch, config)
    del lengths[f"{arch}.attention.value_length"]  # this one is the linear attention's
    for key in (f"{arch}.attention.q_lora_rank", f"{arch}.attention.kv_lora_rank"):
        if key in lengths:
            pairs[key] = lengths.pop(key)
    return pairs | {
        f"{arch}.rope.dimension_count": u32(config.need("qk_rope_head_dim")),
        **lengths,
        f"{arch}.expert_feed_forward_length": u32(config.need("moe_intermediate_size")),
        f"{arch}.expert_shared_count": u32(config.count(*SHARED_EXPERTS) or 0),
        f"{arch}.leading_dense_block_count": u32(dense_count(config)),
        f"{arch}.expert_weights_scale": f32(config.number("routed_scaling_factor") or 1.0),
    }


def convolution(it: Found) -> TensorSource:
    """The taps of each channel, as llama.cpp has them."""
    shape = it.source.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[1] != 1):
        fail(it.source, "is no convolution of single channels (expected: channels, 1, taps)")
    return layout.reshape(it.source, (1, shape[0], 1, shape[-1]))


_WIDTH = ("kda_width",)
_SQUARE = ("kda_width", "hidden_size")
KDA: Shapes = layers(
    {
        **{f"ssm_conv1d_{name}.weight": ("kda_width", "1", "taps") for name in "qkv"},
        **{f"attn_{name}.weight": _SQUARE for name in "qkv"},
        "ssm_f_a.weight": ("kda_head_dim", "hidden_size"),
        "ssm_f_b.weight": ("kda_width", "kda_head_dim"),
        "ssm_beta.weight": ("num_attention_heads", "hidden_size"),
        "ssm_a": ("num_attention_heads", "1"),
        "ssm_dt.bias": _WIDTH,
        "ssm_g_a.weight": ("kda_head_dim", "hidden_size"),
        "ssm_g_b.weight": ("kda_width", "kda_head_dim"),
        "ssm_norm.weight": ("kda_head_dim",),
        "attn_output.weight": ("hidden_size", "kda_width"),
    }
)

KDA_RULES: tuple[Rule, ...] = (
    change(_ATTENTION + ".{proj:q|k|v}_conv1d.weight", convolution),
    rename(_ATTENTION + ".dt_bias", "model.layers.{layer}.self_attn.dt_proj.bias"),
)

KDA_LENGTHS: Mapping[str, Length] = {
    "kda_head_dim": lambda config, _: _linear(config).need("head_dim"),
    "kda_width": lambda config, _: config.need("num_attention_heads") * _linear(config).need("head_dim"),
    "taps": lambda config, _: _linear(config).need("short_conv_kernel_size"),
}

KIMI_LINEAR = Architecture(
    name="kimi-linear",
    vocabulary=Vocabulary(kinds=("bpe", "tiktoken"), pre=("kimi-k2",), special_over=(("eos", "eos_token"),)),
    classes=("KimiLinearForCausalLM", "KimiLinearModel"),
    layout=Layout(
        required={
            "token_embd.weight": ("vocab_size", "hidden_size"),
            "output_norm.weight": ("hidden_size",),
            **HEAD,
            **layers({"attn_norm.weight": ("hidden_size",), "ffn_norm.weight": ("hidden_size",)}),
        },
        parts=(
            Part(where=_linear_layers, required=KDA),
            Part(where=_latent_layers, required=LATENT),
            *queries(_latent_layers),
            *dense_then_experts(SHARED, required=EXPERTS | BIAS),
        ),
    ),
    adjust=one_key_value_head,
    pairs=_pairs,
    rules=(
        SPLIT,
        *W_EXPERTS,
        change(_ATTENTION + ".A_log", lambda it: NegExp(source=it.source)),
        *KDA_RULES,
    ),
    lengths=KDA_LENGTHS,
)

ALL = (KIMI_LINEAR,)
