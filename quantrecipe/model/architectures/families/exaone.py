"""LG AI Research's EXAONE.

    exaone      EXAONE 3: Llama's frame, with GPT-2's names of layers
    exaone4     EXAONE 4 and 4.5: norms behind attention and feed-forward network; most layers see a sliding window
    exaone-moe  K-EXAONE: norms in front again, experts behind the first dense layers, and draft heads

A draft head of a checkpoint is called "mtp". All heads share what joins a token and what the layers made of it, so
that each gets a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.llama import rotary_factors
from quantrecipe.model.architectures.families.qwen import EXPERTS_RULES
from quantrecipe.model.architectures.hyperparameters import (
    HEADS,
    HIDDEN,
    LAYERS,
    SHARED_EXPERTS,
    count_pairs,
    number_pairs,
    sliding_pattern,
)
from quantrecipe.model.architectures.layout import (
    DENSE,
    EXPERTS,
    HEAD,
    POST_NORMS,
    QK_NORMS,
    Layout,
    Part,
    attention,
    biases,
)
from quantrecipe.model.architectures.rope import rotated
from quantrecipe.model.architectures.rules import Each, Found, Named
from quantrecipe.model.architectures.shared.experts import (
    BIAS,
    DRAFT,
    DRAFT_NAMES,
    SHARED,
    dense_then_experts,
    draft_count,
    drafts,
    mtp_name,
    with_drafts,
)
from quantrecipe.model.pairs import Pairs, boolean, text, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_FACTORS = {"rope_freqs.weight": ("head_dim / 2",)}


def _exaone_pairs(config: Config) -> Pairs:
    """With the norms' epsilon under the name that llama.cpp reads, and not only under the converter's."""
    turning = rotated(config, config.need(*HIDDEN) // config.need(*HEADS))
    epsilon = number_pairs("exaone", config, {"attention.layer_norm_rms_epsilon": ("layer_norm_epsilon",)})
    return {"exaone.rope.dimension_count": u32(turning)} | epsilon


EXAONE = Architecture(
    name="exaone",
    classes=("ExaoneForCausalLM",),
    layout=Layout(required=attention() | DENSE, optional=HEAD | biases() | _FACTORS),
    pairs=_exaone_pairs,
    vocabulary=Vocabulary(kinds=("bpe",), pre=("exaone",)),
    computed=rotary_factors,
)


def _exaone4_keys(arch: str, config: Config) -> Pairs:
    pairs = {f"{arch}.vocab_size": u32(config.need("vocab_size"))}
    if config.find("sliding_window") is None:
        return pairs
    window = count_pairs(arch, config, {"attention.sliding_window": ("sliding_window",)})
    return pairs | window | sliding_pattern(arch, config)


_EXAONE4_LAYOUT = Layout(
    required=attention("hidden_size", norms=()) | QK_NORMS | POST_NORMS | DENSE,
    optional=HEAD | biases() | _FACTORS,
)

EXAONE4 = Architecture(
    name="exaone4",
    classes=("Exaone4ForCausalLM",),
    layout=_EXAONE4_LAYOUT,
    pairs=lambda config: _exaone4_keys("exaone4", config),
    vocabulary=Vocabulary(kinds=("bpe",), pre=("exaone4",)),
    computed=rotary_factors,
)

_JOINTS = {
    "fc": "eh_proj",
    "pre_fc_norm_embedding": "enorm",
    "pre_fc_norm_hidden": "hnorm",
    "norm": "shared_head_norm",
}


def _to_all_heads(it: Found) -> Iterator[Named]:
    for layer in drafts(it.config):
        yield f"blk.{layer}.nextn.{_JOINTS[it.texts['joint']]}.weight", it.source


_SHARED_JOINTS = Each(names=f"mtp.{{joint:{'|'.join(_JOINTS)}}}.weight", make=_to_all_heads)


def _shared_layer(it: Found) -> Iterator[Named]:
    """A layer that all draft heads share is stored once."""
    shared = it.config.flag("mtp_share_layers")
    for layer in drafts(it.config) if shared else (it.config.need(*LAYERS) + it.layer,):
        yield f"model.layers.{layer}.{it.texts['rest']}", it.source


def _exaone45_pairs(config: Config) -> Pairs:
    pairs = _exaone4_keys("exaone4", config)
    if count := draft_count(config):
        pairs["exaone4.nextn_predict_layers"] = u32(count)
    return pairs


def _without_place(config: Config, name: str) -> bool:
    return name.startswith("mtp.") and not draft_count(config)


EXAONE45 = replace(
    EXAONE4,
    classes=("Exaone4_5_ForConditionalGeneration",),
    layout=replace(_EXAONE4_LAYOUT, parts=(DRAFT,)),
    layers=with_drafts,
    pairs=_exaone45_pairs,
    leaves_out=_without_place,
    rules=(Each(names="mtp.layers.{layer}.{rest:*}", make=_shared_layer), _SHARED_JOINTS),
    names=DRAFT_NAMES,
)


def _dense_layers(config: Config) -> int:
    return config.count("first_k_dense_replace", "first_last_k_dense_replace") or 0


def _moe_pairs(config: Config) -> Pairs:
    arch, length, shared = "exaone-moe", config.need("moe_intermediate_size"), config.need(*SHARED_EXPERTS)
    return {
        **_exaone4_keys(arch, config),
        f"{arch}.expert_feed_forward_length": u32(length),
        f"{arch}.expert_shared_count": u32(shared),
        f"{arch}.expert_shared_feed_forward_length": u32(length * shared),
        **number_pairs(arch, config, {"expert_weights_scale": ("routed_scaling_factor",)}),
        f"{arch}.expert_weights_norm": boolean(bool(config.flag("norm_topk_prob"))),
        f"{arch}.leading_dense_block_count": u32(_dense_layers(config)),
        f"{arch}.nextn_predict_layers": u32(draft_count(config)),
        f"{arch}.rope.scaling.type": text("none"),
    }


EXAONE_MOE = Architecture(
    name="exaone-moe",
    classes=("ExaoneMoEForCausalLM", "ExaoneMoeForCausalLM"),
    layout=Layout(
        required=attention() | QK_NORMS | HEAD,
        optional=biases() | _FACTORS,
        parts=(
            *dense_then_experts(BIAS, EXPERTS | SHARED, dense=_dense_layers),
            Part(where=drafts, required=DENSE),
            DRAFT,
        ),
    ),
    layers=with_drafts,
    pairs=_moe_pairs,
    vocabulary=Vocabulary(kinds=("bpe",), pre=("exaone-moe",)),
    draft_name=mtp_name,
    rules=(_SHARED_JOINTS, *EXPERTS_RULES),
    names=DRAFT_NAMES,
    computed=rotary_factors,
)

ALL = (EXAONE, EXAONE4, EXAONE45, EXAONE_MOE)
