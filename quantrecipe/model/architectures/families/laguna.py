"""Poolside's Laguna: heads counted layer by layer, a gate behind attention, and experts after the first layers.

The gate has one number for each head, or one for each number of a head: `gating` or `gating_types` says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.hyperparameters import LAYERS, count_pairs, head_dim, number_pairs
from quantrecipe.model.architectures.layout import (
    DENSE,
    EXPERTS,
    HEAD,
    QK_NORMS,
    Layout,
    Part,
    attention,
    biases,
    layers,
)
from quantrecipe.model.architectures.rules import Stack
from quantrecipe.model.pairs import Pairs, boolean, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_HIDDEN, _SHARED = "hidden_size", "shared_expert_intermediate_size"
_SIGMOID = 2  # llama.cpp: LLAMA_EXPERT_GATING_FUNC_TYPE_SIGMOID
_CONTROL = 3  # llama.cpp: LLAMA_TOKEN_TYPE_CONTROL
_END_OF_TURN = "</assistant>"  # the tokenizer takes it for a part of the text, which it isn't
_GATES = ("per_head", "per_element")


def _values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the number of heads as a list, which the GGUF always has."""
    count = values.get("num_hidden_layers")
    per_layer = values.get("num_attention_heads_per_layer")
    if not per_layer and isinstance(count, int):
        per_layer = [values.get("num_attention_heads")] * count
    return {**values, "num_attention_heads": per_layer}


def _gates(config: Config) -> list[str]:
    """Each layer's kind of gate. ModelError where config.json names none, or one that isn't known."""
    count, general = config.need(*LAYERS), config.find("gating")
    found = config.per_layer(count, "gating_types") or ["per_head" if general is True else general] * count
    kinds = [str(it).replace("-", "_") for it in found]
    if unknown := [it for it in kinds if it not in _GATES]:
        config.fail(f"says that the gate is {shown(unknown[0])} (expected: per-head or per-element)")
    return kinds


def _gate_rows(config: Config, layer: int) -> int:
    heads = config.at(layer, "num_attention_heads")
    return heads * head_dim(config) if _gates(config)[layer] == "per_element" else heads


def _refuse(config: Config) -> str | None:
    """What reads `gating` alone takes a gate for each element for one of each head, and gives nonsense."""
    general = str(config.find("gating")).replace("-", "_")
    if "per_element" in _gates(config) and general != "per_element":
        return (
            'has a gate for each element, but "gating" doesn\'t say "per-element": correct it in config.json'
        )
    return None


def _dense(config: Config) -> int:
    """How many layers in front have no experts."""
    kinds = config.per_layer(config.need(*LAYERS), "mlp_layer_types")
    if kinds is None:
        config.fail('has no mlp_layer_types (expected: "dense" or "sparse" for each layer)')
    return next((layer for layer, kind in enumerate(kinds) if kind != "dense"), len(kinds))


def _rotated(config: Config, kind: str) -> int | None:
    """How many numbers of each head are rotated in layers of a kind; None where there are no such settings."""
    settings = config.rope.get(kind)
    if not isinstance(settings, Mapping):
        return None
    share = settings.get("partial_rotary_factor", 1.0)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        config.fail(f"says partial_rotary_factor: {shown(share)} (expected: a number from 0 to 1)")
    return int(head_dim(config) * share)


def _pairs(config: Config) -> Pairs:
    arch = "laguna"
    window = {"attention.sliding_window": ("sliding_window",)} if config.count("sliding_window") else {}
    lengths = {
        "expert_feed_forward_length": ("moe_intermediate_size",),
        "expert_shared_feed_forward_length": (_SHARED,),
    }
    full = _rotated(config, "full_attention")
    if full is None:
        config.fail("has no rope_parameters for full_attention (expected: an object)")
    pairs = {
        f"{arch}.vocab_size": u32(config.need("vocab_size")),
        **count_pairs(arch, config, window | lengths),
        f"{arch}.expert_weights_norm": boolean(True),  # the model always divides by the sum
        **number_pairs(arch, config, {"expert_weights_scale": ("moe_routed_scaling_factor",)}),
        f"{arch}.expert_gating_func": u32(_SIGMOID),
        f"{arch}.leading_dense_block_count": u32(_dense(config)),
        f"{arch}.rope.dimension_count": u32(full),
    }
    if (sliding := _rotated(config, "sliding_attention")) is not None:
        pairs[f"{arch}.rope.dimension_count_swa"] = u32(sliding)
    return pairs


def _tokenizer(config: Config, pairs: Pairs) -> Pairs:
    """With the token that ends the assistant's turn: config.json has it as one of two that end the text."""
    ends = config.find("eos_token_id")
    others = [it for it in ends if it != config.find("bos_token_id")] if isinstance(ends, list) else []
    if others and isinstance(others[0], int):
        return pairs | {"tokenizer.ggml.eot_token_id": u32(others[0])}
    return pairs


LAGUNA = Architecture(
    name="laguna",
    classes=("LagunaForCausalLM",),
    refuse=_refuse,
    layout=Layout(
        required=attention() | QK_NORMS | layers({"attn_gate.weight": ("gate", _HIDDEN)}),
        optional=HEAD | biases(),
        parts=(
            Part(where=lambda config: range(_dense(config)), required=DENSE),
            Part(
                where=lambda config: range(_dense(config), config.need(*LAYERS)),
                required=EXPERTS
                | layers(
                    {
                        "exp_probs_b.bias": ("num_experts",),
                        "ffn_gate_shexp.weight": (_SHARED, _HIDDEN),
                        "ffn_up_shexp.weight": (_SHARED, _HIDDEN),
                        "ffn_down_shexp.weight": (_HIDDEN, _SHARED),
                    }
                ),
            ),
        ),
    ),
    adjust=_values,
    pairs=_pairs,
    rules=(
        Stack(names="model.layers.{layer}.mlp.experts.{expert}.{matrix:gate_proj|up_proj|down_proj}.weight"),
    ),
    names={
        "model.layers.{layer}.mlp.experts.e_score_correction": "blk.{layer}.exp_probs_b",
        "model.layers.{layer}.post_attention_layernorm": "blk.{layer}.ffn_norm",
    },
    names_of="step35",
    lengths={"gate": _gate_rows},
    vocabulary=Vocabulary(
        kinds=("bpe",), pre=("laguna",), types=((_END_OF_TURN, _CONTROL),), template_file=True
    ),
    tokenizer=_tokenizer,
)

ALL = (LAGUNA,)
