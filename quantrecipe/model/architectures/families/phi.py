"""Microsoft's Phi models: a part of each head is rotated, and long contexts have frequency factors of their own.

    phi2    Phi 1, 1.5 and 2: LayerNorm with biases, attention and feed-forward side by side
    phi3    Phi 3, 3.5, 4 and 4-mini: q, k and v in one matrix, gate and up in one matrix, as they are stored
    phimoe  Phi 3.5 MoE: experts, LayerNorm with biases, and biases on attention

A sliding window of 0 tells llama.cpp that the model is a Phi 4.
"""

from __future__ import annotations

from collections.abc import Mapping

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import (
    EXPERTS,
    EXPERTS_USED,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    Table,
    check_experts,
    count_pairs,
    number_pairs,
)
from quantrecipe.model.architectures.layout import HEAD, Layout, Shapes, attention, biases, layers
from quantrecipe.model.architectures.rope import (
    full_attention,
    longrope_attention_factor,
    longrope_factors,
    rotated,
)
from quantrecipe.model.architectures.rules import Stack
from quantrecipe.model.pairs import Pairs, boolean, f32, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_CONTEXT = ("n_positions", "max_position_embeddings")
_ORIGINAL_CONTEXT = "original_max_position_embeddings"


def _rotated(config: Config) -> int:
    """How many numbers of a head are rotated."""
    return rotated(config, config.need(*HIDDEN)) // config.need(*HEADS)


def _attention_factor(arch: str, config: Config) -> Pairs:
    factor = longrope_attention_factor(config)
    return {} if factor is None else {f"{arch}.rope.scaling.attn_factor": f32(factor)}


def _factors(config: Config) -> Mapping[str, bytes]:
    return longrope_factors(config, _rotated(config))


def _phi2_pairs(arch: str, config: Config) -> Pairs:
    hidden, heads = config.need(*HIDDEN), config.need(*HEADS)
    pairs = count_pairs(arch, config, {"context_length": _CONTEXT, "embedding_length": HIDDEN})
    pairs[f"{arch}.feed_forward_length"] = u32(4 * hidden)
    pairs |= count_pairs(arch, config, {"block_count": LAYERS, "attention.head_count": HEADS})
    pairs[f"{arch}.attention.head_count_kv"] = u32(heads)
    norms: Table = {"attention.layer_norm_epsilon": ("layer_norm_epsilon", "layer_norm_eps")}
    return pairs | number_pairs(arch, config, norms) | {f"{arch}.rope.dimension_count": u32(_rotated(config))}


_PHI3_SIZES: Table = {
    "embedding_length": HIDDEN,
    "feed_forward_length": ("intermediate_size",),
    "block_count": LAYERS,
    "attention.head_count": HEADS,
    "attention.head_count_kv": (*KV_HEADS, "n_head_kv"),
}


def _phi3_pairs(arch: str, config: Config) -> Pairs:
    """The keys of all Phi 3. Without the type of rotary scaling: the factors' tensors say enough."""
    original = config.rope_count(_ORIGINAL_CONTEXT) or config.need(_ORIGINAL_CONTEXT)
    theta = full_attention(config).rope_number("rope_theta")
    pairs = {
        f"{arch}.context_length": u32(config.need(*_CONTEXT)),
        f"{arch}.rope.scaling.original_context_length": u32(original),
    }
    pairs |= count_pairs(arch, config, _PHI3_SIZES)
    pairs |= number_pairs(arch, config, {"attention.layer_norm_rms_epsilon": ("rms_norm_eps",)})
    pairs[f"{arch}.rope.dimension_count"] = u32(_rotated(config))
    if theta is not None:
        pairs[f"{arch}.rope.freq_base"] = f32(theta)
    return pairs


def _window(arch: str, config: Config) -> Pairs:
    return {f"{arch}.attention.sliding_window": u32(config.count("sliding_window") or 0)}


def _experts(config: Config) -> Pairs:
    check_experts(config)
    counts = {"expert_used_count": EXPERTS_USED, "expert_count": EXPERTS}
    return _window("phimoe", config) | count_pairs("phimoe", config, counts)


def _without(shapes: Shapes, *roles: str) -> Shapes:
    return {name: shape for name, shape in shapes.items() if name.split(".")[-2] not in roles}


_ATTENTION = attention("hidden_size")
_NORM_BIASES: Shapes = {"output_norm.bias": ("hidden_size",)} | layers({"attn_norm.bias": ("hidden_size",)})
_OUTPUT: Shapes = HEAD | {"output.bias": ("vocab_size",)} | layers({"attn_output.bias": ("hidden_size",)})
_ROPE_FACTORS: Shapes = {f"rope_factors_{name}.weight": ("rotated / 2",) for name in ("long", "short")}

PHI2 = Architecture(
    name="phi2",
    classes=("PhiForCausalLM",),
    layout=Layout(
        required=_without(_ATTENTION, "ffn_norm")
        | _NORM_BIASES
        | _OUTPUT
        | layers(
            {
                "ffn_up.weight": ("4 · hidden_size", "hidden_size"),
                "ffn_up.bias": ("4 · hidden_size",),
                "ffn_down.weight": ("hidden_size", "4 · hidden_size"),
                "ffn_down.bias": ("hidden_size",),
            }
        ),
        optional=biases("hidden_size"),
    ),
    common=_phi2_pairs,
    vocabulary=Vocabulary(kinds=("bpe",), pre=("gpt-2",)),
    pairs=lambda config: {"tokenizer.ggml.add_bos_token": boolean(False)},
)

PHI3 = Architecture(
    name="phi3",
    classes=("Phi3ForCausalLM", "Phi4ForCausalLMV"),
    layout=Layout(
        required=_without(_ATTENTION, "attn_q", "attn_k", "attn_v")
        | layers(
            {
                "attn_qkv.weight": ("hidden_size + 2 · num_key_value_heads · head_dim", "hidden_size"),
                "ffn_up.weight": ("2 · intermediate_size", "hidden_size"),
                "ffn_down.weight": ("hidden_size", "intermediate_size"),
            }
        ),
        optional=HEAD | _ROPE_FACTORS,
    ),
    lengths={"rotated / 2": lambda config, layer: _rotated(config) // 2},
    common=_phi3_pairs,
    pairs=lambda config: _window("phi3", config),
    early=lambda config: _attention_factor("phi3", config),
    computed=_factors,
    vocabulary=Vocabulary(added="flags"),
)

PHIMOE = Architecture(
    name="phimoe",
    classes=("PhiMoEForCausalLM",),
    layout=Layout(
        required=_ATTENTION
        | _NORM_BIASES
        | _OUTPUT
        | layers(
            {
                "ffn_norm.bias": ("hidden_size",),
                "ffn_gate_inp.weight": ("num_experts", "hidden_size"),
                "ffn_gate_exps.weight": ("num_experts", "intermediate_size", "hidden_size"),
                "ffn_down_exps.weight": ("num_experts", "hidden_size", "intermediate_size"),
                "ffn_up_exps.weight": ("num_experts", "intermediate_size", "hidden_size"),
            }
        ),
        optional=biases("hidden_size") | _ROPE_FACTORS,
    ),
    lengths={"rotated / 2": lambda config, layer: _rotated(config) // 2},
    rules=(Stack(names="model.layers.{layer}.block_sparse_moe.experts.{expert}.{matrix:w1|w2|w3}.weight"),),
    common=_phi3_pairs,
    pairs=_experts,
    early=lambda config: _attention_factor("phimoe", config),
    computed=_factors,
    vocabulary=Vocabulary(kinds=("sentencepiece",), added="flags"),
)

ALL = (PHI2, PHI3, PHIMOE)
