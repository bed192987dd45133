"""GPT-2, StarCoder 1, Jais 1 and ruGPT-3 XL: learned positions or ALiBi, and q, k and v in one matrix.

GPT-2 and Jais store matrices the other way round, as (inputs, outputs): what its authors called Conv1D.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.hyperparameters import (
    HEADS,
    HIDDEN,
    LAYERS,
    common_pairs,
    count_pairs,
    number_pairs,
)
from quantrecipe.model.architectures.layout import (
    FEED_FORWARD_NORM,
    FRAME,
    FUSED,
    FUSED_BIASES,
    HEAD,
    NO_GATE,
    NO_GATE_BIASES,
    NORM_BIASES,
    Layout,
    layers,
)
from quantrecipe.model.architectures.rules import Found, Gather, Named, change, drop, language_name, scaled
from quantrecipe.model.pairs import Pairs, f32, u32
from quantrecipe.model.source.layout import Transpose, concat
from quantrecipe.model.source.source import TensorSource
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL", "LAYER_NORM_FUSED", "four_times"]

LAYER_NORM_FUSED = FRAME | FEED_FORWARD_NORM | NORM_BIASES | FUSED | FUSED_BIASES | NO_GATE | NO_GATE_BIASES
"""What a layer of the models of that time has: LayerNorm, all with biases, and no gate."""

_CONTEXT = ("n_ctx", "n_positions", "max_position_embeddings")
_EPSILON = {"attention.layer_norm_epsilon": ("layer_norm_epsilon",)}


def four_times(config: Config, layer: int = 0) -> int:
    """The length of the feed-forward network, which llama.cpp doesn't ask config.json for."""
    return 4 * config.need(*HIDDEN)


def _turned(it: Found) -> TensorSource:
    return Transpose(source=it.source)


def _name(name: str) -> str | None:
    """Without the masks of attention, which GPT-2 stores as "bias"."""
    return None if name.endswith((".attn.bias", ".attn.masked_bias")) else language_name(name)


def _gpt2_common(arch: str, config: Config) -> Pairs:
    return {
        **count_pairs(arch, config, {"block_count": LAYERS}),
        f"{arch}.context_length": u32(config.need(*_CONTEXT)),
        f"{arch}.embedding_length": u32(config.need(*HIDDEN)),
        f"{arch}.feed_forward_length": u32(four_times(config)),
        f"{arch}.attention.head_count": u32(config.need(*HEADS)),
        **number_pairs(arch, config, _EPSILON),
    }


GPT2 = Architecture(
    name="gpt2",
    classes=("GPT2LMHeadModel",),
    layout=Layout(
        required=LAYER_NORM_FUSED | {"position_embd.weight": ("context", "hidden_size")}, optional=HEAD
    ),
    common=_gpt2_common,
    rename=_name,
    rules=(change("{stem:*}.{matrix:c_attn|c_proj|c_fc}.weight", _turned),),
    lengths={
        "intermediate_size": four_times,
        "context": lambda config, layer: config.need(*_CONTEXT),
    },
    vocabulary=Vocabulary(kinds=("bpe",), pre=("gpt-2",)),
)


def _starcoder_common(arch: str, config: Config) -> Pairs:
    return {
        f"{arch}.context_length": u32(config.need("n_positions", *_CONTEXT)),
        f"{arch}.embedding_length": u32(config.need(*HIDDEN)),
        f"{arch}.feed_forward_length": u32(four_times(config)),
        **count_pairs(arch, config, {"block_count": LAYERS}),
        f"{arch}.attention.head_count": u32(config.need(*HEADS)),
        f"{arch}.attention.head_count_kv": u32(1),
        **number_pairs(arch, config, _EPSILON),
    }


def _refuse_starcoder(config: Config) -> str | None:
    if config.flag("multi_query") is False:
        return "has keys and values for each head; llama.cpp's starcoder has them once for all (multi_query)"
    return None


STARCODER = replace(
    GPT2,
    name="starcoder",
    classes=("GPTBigCodeForCausalLM",),
    refuse=_refuse_starcoder,
    common=_starcoder_common,
    rules=(),
    lengths={**GPT2.lengths, "num_key_value_heads": lambda config, layer: 1},
    vocabulary=Vocabulary(kinds=("bpe",), pre=("starcoder",)),
)

_ALIBI = 8.0
"""The bias of ALiBi's first slope, 2^(-8 / heads). Jais stores its slopes, which are those of the paper."""


def _factor(*names: str) -> Callable[[Config], float]:
    """The product of these hyper-parameters. ModelError where one isn't there."""

    def product(config: Config) -> float:
        numbers = [config.number(name) for name in names]
        if None in numbers:
            config.fail(f"has no {names[numbers.index(None)]} (expected: a number)")
        whole = 1.0
        for number in numbers:
            whole *= number or 0.0
        return whole

    return product


def _embeddings_scale(config: Config) -> float:
    return _factor(config.called("mup_embeddings_scale", "embeddings_scale"))(config)


def _width_scale(config: Config) -> float:
    if "mup_output_alpha" in config.values:
        return _factor("mup_output_alpha", "mup_width_scale")(config)
    return _factor("width_scale")(config)


def _whole(make: Callable[[Config], float]) -> Callable[[Found], TensorSource]:
    return lambda it: scaled(it.source, [(it.source.rows, make(it.config))])


def _jais_common(arch: str, config: Config) -> Pairs:
    sizes = {
        "block_count": LAYERS,
        "context_length": ("n_positions",),
        "embedding_length": ("n_embd",),
        "feed_forward_length": ("n_inner",),
        "attention.head_count": ("n_head",),
    }
    for names in sizes.values():
        config.need(*names)
    return count_pairs(arch, config, sizes) | number_pairs(arch, config, _EPSILON)


def _refuse_jais(config: Config) -> str | None:
    expected = {"activation_function": "swiglu", "position_embedding_type": "alibi"}
    for name, value in expected.items():
        if (found := config.find(name)) != value:
            return f"says {name}: {shown(found)}; llama.cpp's Jais has {value} only"
    return None


JAIS = replace(
    GPT2,
    name="jais",
    classes=("JAISLMHeadModel",),
    refuse=_refuse_jais,
    layout=Layout(
        required=LAYER_NORM_FUSED
        | HEAD
        | layers(
            {"ffn_gate.weight": ("intermediate_size", "hidden_size"), "ffn_gate.bias": ("intermediate_size",)}
        )
    ),
    early=lambda config: {"jais.attention.max_alibi_bias": f32(_ALIBI)},
    common=_jais_common,
    rules=(
        change("{stem:*}.{matrix:c_attn|c_proj|c_fc|c_fc2}.weight", _turned),
        drop("{stem:*}relative_pe.slopes"),
        change("transformer.wte.weight", _whole(_embeddings_scale)),
        change("lm_head.weight", _whole(_width_scale)),
    ),
    lengths={},
    vocabulary=Vocabulary(kinds=("bpe",), pre=("jais",)),
)


def _fused(end: str) -> Gather:
    """q, k and v, which are stored one by one, as the one matrix (or bias) of GPT-2."""

    def make(config: Config, layer: int, parts: tuple[TensorSource, ...]) -> list[Named]:
        return [(f"blk.{layer}.attn_qkv.{end}", concat(parts))]

    names = tuple(f"model.layers.{{layer}}.self_attn.{part}_proj.{end}" for part in "qkv")
    return Gather(names=names, make=make)


RUGPT3XL = replace(
    GPT2,
    classes=("RuGPT3XLForCausalLM",),
    default_theta=None,
    common=common_pairs,
    rules=(_fused("weight"), _fused("bias")),
    lengths={"context": lambda config, layer: config.need("max_position_embeddings", *_CONTEXT)},
)

ALL = (GPT2, STARCODER, JAIS, RUGPT3XL)
