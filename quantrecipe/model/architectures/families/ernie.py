"""ERNIE 4.5, from Baidu: Llama's layers with rows in the order of the checkpoint; and PaddleOCR, which reads pages.

ernie4_5        dense; older checkpoints have q, k and v in one matrix, and gate and up
ernie4_5-moe    experts behind the first layers, and experts for every token
paddleocr       ERNIE 4.5 with rotation by sections
"""

from __future__ import annotations

from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture, as_many_as_heads
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import KV_HEADS, LAYERS, count_pairs
from quantrecipe.model.architectures.layout import (
    DENSE,
    EXPERTS,
    HEAD,
    Layout,
    Part,
    Shapes,
    attention,
    biases,
    layers,
)
from quantrecipe.model.architectures.rules import (
    Each,
    Found,
    Named,
    Stack,
    halves,
    language_name,
    query_key_value,
)
from quantrecipe.model.architectures.shared.experts import BIAS, dense_then_experts
from quantrecipe.model.pairs import Pairs, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]


def _rename(name: str) -> str | None:
    return language_name(name.replace("ernie.", "model."))


def _separate(it: Found) -> list[Named]:
    stem = it.name.removesuffix("qkv_proj.weight")
    return [(f"{stem}{x}_proj.weight", part) for x, part in zip("qkv", query_key_value(it), strict=True)]


def _gate_and_up(it: Found) -> list[Named]:
    stem = it.name.removesuffix("up_gate_proj.weight")
    gate, up = halves(it.source)
    return [(f"{stem}gate_proj.weight", gate), (f"{stem}up_proj.weight", up)]


_OPTIONAL: Shapes = HEAD | biases() | layers({"attn_output.bias": ("hidden_size",)})

ERNIE = Architecture(
    name="ernie4_5",
    vocabulary=Vocabulary(kinds=("sentencepiece",), space_prefix="tokenizer_config"),
    classes=("Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"),
    layout=Layout(required=attention() | DENSE, optional=_OPTIONAL),
    derive={"num_key_value_heads": as_many_as_heads},
    rename=_rename,
    rules=(
        Each(names="model.layers.{layer}.self_attn.qkv_proj.weight", make=_separate),
        Each(names="model.layers.{layer}.mlp.up_gate_proj.weight", make=_gate_and_up),
    ),
)

PADDLEOCR = replace(ERNIE, name="paddleocr", classes=("PaddleOCRVLForConditionalGeneration",))

_SHARED: Shapes = layers(
    {
        "ffn_gate_shexp.weight": ("shared", "hidden_size"),
        "ffn_up_shexp.weight": ("shared", "hidden_size"),
        "ffn_down_shexp.weight": ("hidden_size", "shared"),
    }
)


def _shared_length(config: Config, layer: int = 0) -> int:
    """What llama.cpp's converter takes for it: it holds for the models that Baidu published."""
    return config.need("intermediate_size") // config.need(*KV_HEADS)


def _dense(config: Config) -> int:
    return config.count("moe_layer_start_index") or 0


def _has_shared(config: Config) -> list[int]:
    shared = config.count("moe_num_shared_experts")
    return list(range(_dense(config), config.need(*LAYERS))) if shared else []


def _moe_pairs(config: Config) -> Pairs:
    arch = "ernie4_5-moe"
    table = {
        "expert_count": ("moe_num_experts",),
        "expert_used_count": ("moe_k",),
        "interleave_moe_layer_step": ("moe_layer_interval",),
        "leading_dense_block_count": ("moe_layer_start_index",),
        "expert_feed_forward_length": ("moe_intermediate_size",),
        "expert_shared_count": ("moe_num_shared_experts",),
    }
    pairs = count_pairs(arch, config, table)
    if config.count("moe_num_shared_experts"):
        pairs[f"{arch}.expert_shared_feed_forward_length"] = u32(_shared_length(config))
    return pairs


_DRAFTS = tuple(f"model.mtp_{part}." for part in ("block", "emb_norm", "hidden_norm", "linear_proj"))


def _moe_rename(name: str) -> str | None:
    """A tensor's name; None for those of draft heads, which llama.cpp has no place for."""
    found = _rename(name)
    return None if found is None or found.startswith(_DRAFTS) else found


ERNIE_MOE = replace(
    ERNIE,
    name="ernie4_5-moe",
    classes=("Ernie4_5_MoeForCausalLM",),
    layout=Layout(
        required=attention(),
        optional=_OPTIONAL,
        parts=(
            *dense_then_experts(BIAS, required=EXPERTS, dense=_dense),
            Part(where=_has_shared, required=_SHARED),
        ),
    ),
    pairs=_moe_pairs,
    rename=_moe_rename,
    rules=(
        Stack(
            names="model.layers.{layer}.mlp.experts.{expert}.{matrix:gate_proj|up_proj|down_proj}.weight",
            count=lambda config: config.need("moe_num_experts"),
        ),
    ),
    lengths={"num_experts": lambda config, _: config.need("moe_num_experts"), "shared": _shared_length},
)

ALL = (ERNIE, PADDLEOCR, ERNIE_MOE)
