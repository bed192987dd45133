"""Arcee's Trinity (AFMoE): norms around attention and feed-forward, a gate behind attention, and experts.

llama.cpp has the rest built in: it multiplies the embedding by the root of its length, and three layers of four see a
sliding window and are rotated, and the fourth sees all and isn't.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.llama import LLAMA, VOCABULARY, rotary_factors
from quantrecipe.model.architectures.hyperparameters import (
    LAYERS,
    count_pairs,
    number_pairs,
    rope_dimensions,
    sliding_layers,
)
from quantrecipe.model.architectures.layout import (
    EXPERTS,
    HEAD,
    POST_NORMS,
    QK_NORMS,
    Layout,
    Part,
    Q,
    attention,
    biases,
    layers,
)
from quantrecipe.model.architectures.rules import Stack, rename
from quantrecipe.model.architectures.shared.experts import BIAS, SHARED, dense_then_experts
from quantrecipe.model.pairs import Pairs, boolean

__all__ = ["ALL"]

_PERIOD = 4  # llama.cpp: afmoe.cpp, load_swa_pattern
_EXPERTS = EXPERTS | BIAS


def _dense(config: Config) -> int:
    return config.count("num_dense_layers") or 0


def _has_shared(config: Config) -> Iterable[int]:
    shared = config.count("num_shared_experts")
    return range(_dense(config), config.need(*LAYERS)) if shared else ()


def _refuse(config: Config) -> str | None:
    """What llama.cpp takes for granted, and no key of a GGUF can say otherwise."""
    if config.flag("mup_enabled") is not True:
        return "has embeddings that aren't scaled (mup_enabled), and llama.cpp scales them always"
    if not config.count("sliding_window"):
        return "has no sliding_window, and llama.cpp can't run such a model without one"
    if rotary_factors(config):
        return "has Llama 3's scaling of rotary embeddings, and llama.cpp loads no factors of these"
    usual = [bool((layer + 1) % _PERIOD) for layer in range(config.need(*LAYERS))]
    if sliding_layers(config) != usual:
        return (
            f"has other layers with full attention than every {_PERIOD}th, which llama.cpp takes for granted"
        )
    return None


def _pairs(config: Config) -> Pairs:
    arch = "afmoe"
    counts = {
        "expert_shared_count": ("num_shared_experts",),
        "expert_feed_forward_length": ("moe_intermediate_size",),
        "leading_dense_block_count": ("num_dense_layers",),
    }
    return {
        **rope_dimensions(arch, config),
        **count_pairs(arch, config, counts),
        f"{arch}.expert_weights_norm": boolean(bool(config.flag("route_norm"))),
        **number_pairs(arch, config, {"expert_weights_scale": ("route_scale",)}),
        **count_pairs(arch, config, {"attention.sliding_window": ("sliding_window",)}),
    }


AFMOE = Architecture(
    name="afmoe",
    classes=("AfmoeForCausalLM",),
    layout=Layout(
        required=attention() | POST_NORMS | QK_NORMS | layers({"attn_gate.weight": (Q, "hidden_size")}),
        optional=HEAD | biases(),
        parts=(
            *dense_then_experts({}, _EXPERTS, dense=_dense),
            Part(where=_has_shared, required=SHARED),
        ),
    ),
    refuse=_refuse,
    defaults={"route_norm": True},  # the class in transformers divides always
    rules=(
        Stack(names="model.layers.{layer}.mlp.experts.{expert}.{matrix:gate_proj|up_proj|down_proj}.weight"),
        rename("model.layers.{layer}.mlp.expert_bias", "model.layers.{layer}.mlp.expert_bias.bias"),
    ),
    pairs=_pairs,
    vocabulary=replace(VOCABULARY, pre=("afmoe",)),
    tokenizer=LLAMA.tokenizer,
)

ALL = (AFMOE,)
