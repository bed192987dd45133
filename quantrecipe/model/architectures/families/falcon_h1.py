"""Falcon-H1: attention and Mamba-2 side by side in each layer, and multipliers that are part of the weights here.

The model multiplies what goes into a matrix or comes out of it by a number from config.json; llama.cpp's converter
multiplies the matrix once instead. in_proj has five parts, each with a factor of its own: z, x, B, C and the time step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.families.mamba import mamba2_common
from quantrecipe.model.architectures.hyperparameters import HEADS, KV_HEADS, count_pairs, head_dim
from quantrecipe.model.architectures.layout import (
    DENSE,
    DENSE_BIASES,
    HEAD,
    Layout,
    Shapes,
    attention,
    biases,
    layers,
)
from quantrecipe.model.architectures.rules import Found, Rule, change, scaled
from quantrecipe.model.architectures.shared.state_space import (
    MAMBA2,
    MAMBA2_CONV_BIAS,
    MAMBA2_NORM,
    StateSpace,
    mamba2_rules,
    space_lengths,
)
from quantrecipe.model.pairs import Pairs, f32, u32
from quantrecipe.model.source.source import TensorSource
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]


def _space(config: Config) -> StateSpace:
    inner = config.need("mamba_d_ssm")
    return StateSpace(
        inner=inner,
        state=config.need("mamba_d_state", "state_size", "d_state"),
        kernel=config.need("mamba_d_conv", "conv_kernel", "d_conv"),
        rank=inner // config.need("mamba_d_head"),
        groups=config.need("mamba_n_groups", "n_groups"),
    )


def _factors(config: Config, name: str, count: int) -> list[float]:
    """A multiplier of config.json as a list of so many. ModelError where it isn't there."""
    value: Any = config.find(name)
    numbers = value if isinstance(value, list) else [value]
    if len(numbers) != count or not all(isinstance(it, int | float) for it in numbers):
        config.fail(f"says {name}: {shown(value)} (expected: {count} numbers)")
    return [float(it) for it in numbers]


def _whole(make: Callable[[Config], list[float]]) -> Callable[[Found], TensorSource]:
    """Multiply a tensor by one factor after the other, each time rounded as the converter does."""

    def change(it: Found) -> TensorSource:
        return scaled(it.source, *([(it.source.rows, factor)] for factor in make(it.config)))

    return change


def _by(name: str, place: int = 0, of: int = 1) -> Callable[[Config], list[float]]:
    return lambda config: [_factors(config, name, of)[place]]


def _key(config: Config) -> list[float]:
    return _factors(config, "key_multiplier", 1) + _factors(config, "attention_in_multiplier", 1)


def _in_proj(it: Found) -> TensorSource:
    space = _space(it.config)
    shared = space.groups * space.state
    parts = (space.inner, space.inner, shared, shared, it.source.rows - 2 * space.inner - 2 * shared)
    whole = _factors(it.config, "ssm_in_multiplier", 1)[0]
    each = _factors(it.config, "ssm_multipliers", len(parts))
    return scaled(it.source, [(it.source.rows, whole)], list(zip(parts, each, strict=True)))


_LAYER = "model.layers.{layer}."
_ATTENTION, _MIXER, _MLP = _LAYER + "self_attn.", _LAYER + "mamba.", _LAYER + "feed_forward."

_RULES: tuple[Rule, ...] = (
    change(_MLP + "gate_proj.{end}", _whole(_by("mlp_multipliers", 0, of=2))),
    change(_MLP + "down_proj.{end}", _whole(_by("mlp_multipliers", 1, of=2))),
    change(_ATTENTION + "{proj:q|v}_proj.{end}", _whole(_by("attention_in_multiplier"))),
    change(_ATTENTION + "k_proj.{end}", _whole(_key)),
    change(_ATTENTION + "o_proj.{end}", _whole(_by("attention_out_multiplier"))),
    change(_MIXER + "out_proj.{end}", _whole(_by("ssm_out_multiplier"))),
    change(_MIXER + "in_proj.weight", _in_proj),
    change("lm_head.weight", _whole(_by("lm_head_multiplier"))),
    change("model.embed_tokens.weight", _whole(_by("embedding_multiplier"))),
)


def _pairs(config: Config) -> Pairs:
    """What Mamba-2's GGUFs say otherwise, and what attention and the feed-forward network need."""
    sizes = {
        "vocab_size": ("vocab_size",),
        "context_length": ("max_position_embeddings",),
        "feed_forward_length": ("intermediate_size",),
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
    }
    pairs = count_pairs("falcon-h1", config, sizes)
    for key in ("key_length", "value_length"):
        pairs[f"falcon-h1.attention.{key}"] = u32(head_dim(config))
    if (theta := config.rope_number("rope_theta")) is not None:
        pairs["falcon-h1.rope.freq_base"] = f32(theta)
    return pairs


def _refuse(config: Config) -> str | None:
    inner, head = config.need("mamba_d_ssm"), config.need("mamba_d_head")
    if inner % head:
        return f"has {inner} inner channels, which heads of {head} don't divide"
    if (activation := config.find("hidden_act")) not in (None, "silu"):
        return f"has the activation {shown(activation)}; llama.cpp has hybrids with silu only"
    return None


def _attention() -> Shapes:
    """With the norm in front of the feed-forward network as the tensor name map has it here: without ".weight"."""
    norm = "blk.{layer}.ffn_norm"
    return {name.replace(norm + ".weight", norm): shape for name, shape in attention().items()}


FALCON_H1 = Architecture(
    name="falcon-h1",
    classes=("FalconH1ForCausalLM",),
    layout=Layout(
        required=_attention() | DENSE | MAMBA2,
        optional={
            **HEAD,
            **biases(),
            **MAMBA2_CONV_BIAS,
            **MAMBA2_NORM,
            **DENSE_BIASES,
            **layers({"attn_output.bias": ("hidden_size",)}),
            "rope_freqs.weight": ("head_dim / 2",),
        },
    ),
    refuse=_refuse,
    default_theta=None,
    as_stated=True,
    common=lambda arch, config: mamba2_common(arch, config, _space(config)),
    pairs=_pairs,
    rules=(*mamba2_rules(_LAYER + "mamba", _space), *_RULES),
    lengths=space_lengths(_space),
    vocabulary=Vocabulary(kinds=("bpe",), pre=("falcon-h1",)),
)

ALL = (FALCON_H1,)
