"""Models of state spaces: Mamba and Falcon Mamba, Mamba-2, and Jamba, which has attention in some layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import EXPERTS, EXPERTS_USED, LAYERS, count_pairs
from quantrecipe.model.architectures.layout import (
    DENSE,
    FRAME,
    HEAD,
    WIDE_EXPERTS,
    Layout,
    Length,
    Part,
    biases,
    layers,
    self_attention,
)
from quantrecipe.model.architectures.rules import Each, Found, Named, Stack
from quantrecipe.model.architectures.state_space import (
    MAMBA,
    MAMBA2,
    MAMBA2_CONV_BIAS,
    MAMBA2_NORM,
    StateSpace,
    mamba2_rules,
    mamba_rules,
    space_lengths,
    space_pairs,
)
from quantrecipe.model.pairs import Pairs, boolean, f32, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL", "NO_CONTEXT", "mamba2_common", "padded_vocabulary"]

NO_CONTEXT = 2**20
"""The context length of state spaces, which have none of their own. Source: conversion/mamba.py"""

_EPSILON = ("layer_norm_epsilon", "rms_norm_eps")
_EXPANSION = "llama.cpp has state spaces of twice the hidden size only"


def padded_vocabulary(multiple: int) -> Length:
    """The rows of an embedding that is filled up: to `multiple`, where config.json gives no other."""

    def rows(config: Config, layer: int) -> int:
        step = config.count("pad_vocab_size_multiple") or multiple
        return -(-config.need("vocab_size") // step) * step

    return rows


def _untied(it: Found) -> list[Named]:
    """The output, unless it is the embedding once more."""
    tied = it.config.find("tie_word_embeddings", "tie_embeddings")
    return [(it.name, it.source)] if tied is False else []


def _width(config: Config) -> int:
    return config.need("hidden_size", "d_model", "dim")


def _given(config: Config, *names: str) -> int | None:
    """A whole number; None where there is none, or where it says "auto"."""
    return None if config.find(*names) == "auto" else config.count(*names)


def _mamba(config: Config) -> StateSpace:
    width = _width(config)
    return StateSpace(
        inner=_given(config, "intermediate_size", "d_inner") or 2 * width,
        state=_given(config, "state_size", "d_state") or 16,
        kernel=_given(config, "conv_kernel", "d_conv") or 4,
        rank=_given(config, "time_step_rank", "dt_rank") or -(-width // 16),
    )


def _mamba_common(arch: str, config: Config) -> Pairs:
    return {
        f"{arch}.context_length": u32(NO_CONTEXT),
        f"{arch}.embedding_length": u32(_width(config)),
        f"{arch}.feed_forward_length": u32(0),  # not used, but llama.cpp wants these two
        f"{arch}.attention.head_count": u32(0),
        f"{arch}.block_count": u32(config.need(*LAYERS)),
        **space_pairs(arch, _mamba(config), "conv_kernel", "inner_size", "state_size", "time_step_rank"),
        f"{arch}.attention.layer_norm_rms_epsilon": f32(config.number(*_EPSILON) or 1e-5),
        f"{arch}.ssm.dt_b_c_rms": boolean(config.find("model_type") == "falcon_mamba"),
    }


def _refuse_mamba(config: Config) -> str | None:
    space = _mamba(config)
    return f"has {space.inner} inner channels; {_EXPANSION}" if space.inner != 2 * _width(config) else None


_MAMBA_LENGTHS = {
    "vocab_size": padded_vocabulary(8),
    "hidden_size": lambda config, layer: _width(config),
    **space_lengths(_mamba),
}

MAMBA_1 = Architecture(
    name="mamba",
    classes=("MambaForCausalLM", "MambaLMHeadModel", "FalconMambaForCausalLM"),
    layout=Layout(required=FRAME | MAMBA, optional=HEAD),
    refuse=_refuse_mamba,
    default_theta=None,
    as_stated=True,
    common=_mamba_common,
    rules=(*mamba_rules("backbone.layers.{layer}.mixer"), Each(names="lm_head.weight", make=_untied)),
    lengths=_MAMBA_LENGTHS,
    vocabulary=Vocabulary(kinds=("bpe", "sentencepiece"), pre=("olmo",)),
)


def mamba2_common(arch: str, config: Config, space: StateSpace) -> Pairs:
    """The keys of models whose layers are all Mamba-2's, which some overwrite."""
    keys = ("conv_kernel", "inner_size", "state_size", "time_step_rank", "group_count")
    return {
        f"{arch}.context_length": u32(NO_CONTEXT),
        f"{arch}.embedding_length": u32(_width(config)),
        f"{arch}.feed_forward_length": u32(0),
        f"{arch}.attention.head_count": u32(0),
        f"{arch}.block_count": u32(config.need(*LAYERS)),
        **space_pairs(arch, space, *keys),
        f"{arch}.attention.layer_norm_rms_epsilon": f32(config.number(*_EPSILON) or 1e-5),
    }


def _mamba2(config: Config) -> StateSpace:
    inner = _given(config, "mamba_d_ssm", "intermediate_size", "d_inner")
    inner = inner or _expanded(config)
    return StateSpace(
        inner=inner,
        state=_given(config, "state_size", "d_state") or 128,
        kernel=_given(config, "conv_kernel", "d_conv") or 4,
        rank=inner // _head(config),
        groups=_given(config, "n_groups") or 1,
    )


def _expanded(config: Config) -> int:
    return (_given(config, "mamba_expand", "expand") or 2) * _width(config)


def _head(config: Config) -> int:
    return _given(config, "mamba_d_head", "head_dim") or 64


def _refuse_mamba2(config: Config) -> str | None:
    inner, head, expected = _mamba2(config).inner, _head(config), _expanded(config)
    if inner != expected or inner % head:
        return f"has {inner} inner channels (expected: {expected} by expand, in heads of {head})"
    return None


def _mamba2_name(name: str) -> str:
    """Codestral's names begin with "model." before those that all others have."""
    return name.removeprefix("model.") if name.startswith(("model.backbone", "model.lm_head")) else name


MAMBA_2 = replace(
    MAMBA_1,
    name="mamba2",
    classes=("Mamba2ForCausalLM",),
    layout=Layout(required=FRAME | MAMBA2 | MAMBA2_CONV_BIAS | MAMBA2_NORM, optional=HEAD),
    refuse=_refuse_mamba2,
    common=lambda arch, config: mamba2_common(arch, config, _mamba2(config)),
    rename=_mamba2_name,
    rules=mamba2_rules("backbone.layers.{layer}.mixer", _mamba2),
    lengths=_MAMBA_LENGTHS | {"vocab_size": padded_vocabulary(16), **space_lengths(_mamba2)},
    vocabulary=Vocabulary(kinds=("sentencepiece", "bpe")),
)


def _jamba(config: Config) -> StateSpace:
    width = config.need("hidden_size", "mamba_d_model")
    return StateSpace(
        inner=config.need("mamba_expand") * width,
        state=config.count("mamba_d_state") or 16,
        kernel=config.count("mamba_d_conv") or 4,
        rank=_given(config, "mamba_dt_rank") or -(-width // 16),
    )


def _places(config: Config, kind: str) -> set[int]:
    """The layers that have attention ("attn") or experts ("expert"): every `period`-th from `offset` on."""
    offset, period = config.count(f"{kind}_layer_offset") or 0, config.need(f"{kind}_layer_period")
    return set(range(offset, config.need(*LAYERS), period))


def _with_experts(config: Config) -> set[int]:
    return _places(config, "expert") if config.need(*EXPERTS) > 1 else set()


def _others(config: Config, places: set[int]) -> set[int]:
    return set(range(config.need(*LAYERS))) - places


_JAMBA_SIZES = {
    "block_count": LAYERS,
    "context_length": ("max_position_embeddings", "n_ctx"),
    "embedding_length": ("hidden_size", "mamba_d_model"),
    "feed_forward_length": ("intermediate_size",),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads",),
}
_JAMBA_EXPERTS = {"expert_count": EXPERTS, "expert_used_count": EXPERTS_USED}


def _jamba_common(arch: str, config: Config) -> Pairs:
    return {
        **count_pairs(arch, config, _JAMBA_SIZES),
        **space_pairs(arch, _jamba(config), "conv_kernel", "inner_size", "state_size", "time_step_rank"),
        f"{arch}.attention.layer_norm_rms_epsilon": f32(config.number(*_EPSILON) or 1e-6),
        **count_pairs(arch, config, _JAMBA_EXPERTS),
    }


def _jamba_heads(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Key-value heads layer by layer: none where there is a state space."""
    names = ("num_hidden_layers", "attn_layer_offset", "attn_layer_period")
    sizes = [value for name in names if isinstance(value := values.get(name), int)]
    if len(sizes) < len(names) or not sizes[-1]:
        return values  # what is wrong is told where it is asked for
    count, offset, period = sizes
    heads, places = values.get("num_key_value_heads"), range(offset, count, period)
    return {**values, "num_key_value_heads": [heads if it in places else 0 for it in range(count)]}


def _refuse_jamba(config: Config) -> str | None:
    factor = config.need("mamba_expand")
    return f"has a mamba_expand of {factor}; {_EXPANSION}" if factor != 2 else None


def _jamba_tokenizer(config: Config, pairs: Pairs) -> Pairs:
    """Text gets no space in front where the vocabulary is that of a tokenizer.json."""
    if (config.folder / "tokenizer.model").is_file():
        return pairs
    return pairs | {"tokenizer.ggml.add_space_prefix": boolean(False)}


JAMBA = Architecture(
    name="jamba",
    classes=("JambaForCausalLM",),
    layout=Layout(
        required=FRAME | layers({"ffn_norm.weight": ("hidden_size",)}),
        optional=HEAD,
        parts=(
            Part(
                where=lambda config: _places(config, "attn"),
                required=self_attention("hidden_size"),
                optional=biases("hidden_size"),
            ),
            Part(
                where=lambda config: _others(config, _places(config, "attn")),
                required=MAMBA
                | layers(
                    {
                        "ssm_dt_norm.weight": ("rank",),
                        "ssm_b_norm.weight": ("state",),
                        "ssm_c_norm.weight": ("state",),
                    }
                ),
            ),
            Part(where=_with_experts, required=WIDE_EXPERTS),
            Part(where=lambda config: _others(config, _with_experts(config)), required=DENSE),
        ),
    ),
    refuse=_refuse_jamba,
    adjust=_jamba_heads,
    common=_jamba_common,
    rules=(
        *mamba_rules("model.layers.{layer}.mamba"),
        Stack(
            names="model.layers.{layer}.feed_forward.experts.{expert}.{matrix:down_proj|gate_proj|up_proj}.weight",
            to="model.layers.{layer}.mlp.experts.{matrix}.weight",
        ),
    ),
    lengths=space_lengths(_jamba),
    vocabulary=Vocabulary(kinds=("sentencepiece", "llama-hf")),
    tokenizer=_jamba_tokenizer,
)

ALL = (MAMBA_1, MAMBA_2, JAMBA)
