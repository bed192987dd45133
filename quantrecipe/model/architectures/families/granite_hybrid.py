"""Granite's hybrids and Bamba: Mamba-2 in most layers, attention in some, and a feed-forward network in each.

The dense Granite 4 go by the same class name, with attention in all layers: their GGUF is one of Granite's. It says
what the state space would be like all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.families.granite import (
    GRANITE,
    GRANITE_MOE,
    SHARED_EXPERT,
    SPLIT,
    feed_forward,
    granite_values,
    moe_pairs,
)
from quantrecipe.model.architectures.families.llama import ROTARY
from quantrecipe.model.architectures.families.mamba import NO_CONTEXT, padded_vocabulary
from quantrecipe.model.architectures.hyperparameters import EXPERTS_USED, KV_HEADS, LAYERS
from quantrecipe.model.architectures.layout import (
    FRAME,
    HEAD,
    WIDE_EXPERTS,
    Layout,
    Part,
    biases,
    layers,
    self_attention,
)
from quantrecipe.model.architectures.shared.state_space import (
    MAMBA2,
    MAMBA2_CONV_BIAS,
    MAMBA2_NORM,
    StateSpace,
    mamba2_rules,
    space_lengths,
    space_pairs,
)
from quantrecipe.model.pairs import Pairs, boolean, i32s, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL", "hybrid_space", "recurrent", "with_attention"]


def _mamba(*names: str) -> tuple[str, ...]:
    """The names, and the same with "mamba_" in front."""
    return (*names, *(f"mamba_{name}" for name in names))


def hybrid_space(config: Config) -> StateSpace:
    """The sizes of the state space, as config.json of Granite, Bamba and Nemotron-H has them."""
    width = config.need("mamba_head_dim", "hidden_size", "d_model")
    return StateSpace(
        inner=config.need(*_mamba("expand", "num_heads")) * width,
        state=config.need(*_mamba("state_size", "d_state", "state_dim", "ssm_state_size")),
        kernel=config.need(*_mamba("conv_kernel", "d_conv")),
        rank=config.need(*_mamba("n_heads", "num_heads")),
        groups=config.need(*_mamba("n_groups", "num_groups")),
    )


def with_attention(config: Config) -> list[int]:
    """The layers that have attention: by their types, by their numbers, or every so many."""
    count = config.need(*LAYERS)
    if config.find("layer_types"):
        types = config.per_layer(count, "layer_types") or ()
        return [layer for layer, kind in enumerate(types) if kind == "attention"]
    given = config.find("attn_layer_indices")
    if isinstance(given, list) and given:
        return [layer for layer in range(count) if layer in given]
    period, offset = config.need("attn_layer_period"), config.count("attn_layer_offset")
    if offset is None:
        config.fail("has an attn_layer_period, but no attn_layer_offset (expected: a whole number)")
    return [layer for layer in range(count) if layer % period == offset]


def recurrent(config: Config) -> list[int]:
    """The layers that have a state space."""
    attention = set(with_attention(config))
    return [layer for layer in range(config.need(*LAYERS)) if layer not in attention]


def _rotates(config: Config) -> bool:
    """Bamba rotates q and k. Granite's hybrids don't: state spaces know where they are."""
    return "BambaForCausalLM" in config.classes or not recurrent(config)


def _pairs(arch: str) -> Callable[[Config], Pairs]:
    def make(config: Config) -> Pairs:
        pairs = moe_pairs(arch, config)
        keys = ("conv_kernel", "state_size", "group_count", "inner_size", "time_step_rank")
        pairs |= space_pairs(arch, hybrid_space(config), *keys)
        if rotated := config.count("attn_rotary_emb"):
            pairs[f"{arch}.rope.dimension_count"] = u32(rotated)
        attention, heads = set(with_attention(config)), config.need(*KV_HEADS)
        per_layer = [heads if layer in attention else 0 for layer in range(config.need(*LAYERS))]
        pairs[f"{arch}.attention.head_count_kv"] = i32s(per_layer)
        pairs[f"{arch}.rope.scaling.finetuned"] = boolean(_rotates(config))
        if not _rotates(config):
            pairs[f"{arch}.context_length"] = u32(NO_CONTEXT)
        return pairs

    return make


def _is_dense(config: Config) -> bool:
    return not recurrent(config) and not config.count(*EXPERTS_USED)


def _refuse(config: Config) -> str | None:
    space, hidden = hybrid_space(config), config.need("hidden_size")
    if space.inner != 2 * hidden:
        return f"has {space.inner} inner channels; llama.cpp has hybrids of twice the hidden size ({hidden}) only"
    head = config.count(*_mamba("d_head")) or 64
    if space.inner % head:
        return f"has {space.inner} inner channels, which heads of {head} don't divide"
    if (activation := config.find("hidden_act")) not in (None, "silu"):
        return f"has the activation {shown(activation)}; llama.cpp has hybrids with silu only"
    return None


_CLASSES = ("GraniteMoeHybridForCausalLM", "BambaForCausalLM")

_VOCABULARY = Vocabulary(kinds=("sentencepiece", "bpe"), pre=("refact", "dbrx"))

HYBRID = Architecture(
    name="granitehybrid",
    classes=_CLASSES,
    refuse=_refuse,
    default_theta=None,
    as_stated=True,
    layout=Layout(
        required=FRAME | layers({"ffn_norm.weight": ("hidden_size",)}),
        optional={**HEAD, "rope_freqs.weight": ("head_dim / 2",)},
        parts=(
            Part(where=recurrent, required=MAMBA2 | MAMBA2_NORM, optional=MAMBA2_CONV_BIAS),
            Part(
                where=with_attention,
                required=self_attention(),
                optional=biases() | layers({"attn_output.bias": ("hidden_size",)}),
            ),
            *feed_forward(WIDE_EXPERTS, SHARED_EXPERT),
        ),
    ),
    adjust=granite_values,
    pairs=_pairs("granitehybrid"),
    rules=(*ROTARY, *SPLIT, *mamba2_rules("model.layers.{layer}.mamba", hybrid_space)),
    lengths={"vocab_size": padded_vocabulary(8), **space_lengths(hybrid_space)},
    computed=GRANITE.computed,
    vocabulary=_VOCABULARY,
)

DENSE_4 = replace(
    GRANITE,
    classes=_CLASSES,
    applies=_is_dense,
    default_theta=None,
    as_stated=True,
    rules=(*ROTARY, *SPLIT),
    pairs=_pairs("granite"),
    names_of="granitehybrid",
    vocabulary=_VOCABULARY,
    tokenizer=HYBRID.tokenizer,
)
MOE_4 = replace(
    GRANITE_MOE,
    classes=_CLASSES,
    applies=lambda config: not recurrent(config),
    default_theta=None,
    as_stated=True,
    pairs=_pairs("granitemoe"),
    vocabulary=_VOCABULARY,
    tokenizer=HYBRID.tokenizer,
)

ALL = (DENSE_4, MOE_4, HYBRID)
