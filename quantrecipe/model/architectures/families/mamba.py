"""Models of state spaces alone: Mamba and Falcon Mamba, and Mamba-2."""

from __future__ import annotations

from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import LAYERS
from quantrecipe.model.architectures.layout import (
    FRAME,
    HEAD,
    Layout,
    Length,
)
from quantrecipe.model.architectures.rules import Each, Found, Named
from quantrecipe.model.architectures.shared.state_space import (
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

__all__ = ["ALL", "EXPANSION", "NO_CONTEXT", "given_count", "mamba2_common", "padded_vocabulary"]

NO_CONTEXT = 2**20
"""The context length of state spaces, which have none of their own. Source: conversion/mamba.py"""

_EPSILON = ("layer_norm_epsilon", "rms_norm_eps")
EXPANSION = "llama.cpp has state spaces of twice the hidden size only"


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


def given_count(config: Config, *names: str) -> int | None:
    """A whole number; None where there is none, or where it says "auto"."""
    return None if config.find(*names) == "auto" else config.count(*names)


def _mamba(config: Config) -> StateSpace:
    width = _width(config)
    return StateSpace(
        inner=given_count(config, "intermediate_size", "d_inner") or 2 * width,
        state=given_count(config, "state_size", "d_state") or 16,
        kernel=given_count(config, "conv_kernel", "d_conv") or 4,
        rank=given_count(config, "time_step_rank", "dt_rank") or -(-width // 16),
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
    return f"has {space.inner} inner channels; {EXPANSION}" if space.inner != 2 * _width(config) else None


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
    inner = given_count(config, "mamba_d_ssm", "intermediate_size", "d_inner")
    inner = inner or _expanded(config)
    return StateSpace(
        inner=inner,
        state=given_count(config, "state_size", "d_state") or 128,
        kernel=given_count(config, "conv_kernel", "d_conv") or 4,
        rank=inner // _head(config),
        groups=given_count(config, "n_groups") or 1,
    )


def _expanded(config: Config) -> int:
    return (given_count(config, "mamba_expand", "expand") or 2) * _width(config)


def _head(config: Config) -> int:
    return given_count(config, "mamba_d_head", "head_dim") or 64


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


ALL = (MAMBA_1, MAMBA_2)
