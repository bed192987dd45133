"""AI21's Jamba: Mamba in most layers, attention every so many, and experts in some of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.mamba import EXPANSION, given_count
from quantrecipe.model.architectures.hyperparameters import EXPERTS, EXPERTS_USED, LAYERS, count_pairs
from quantrecipe.model.architectures.layout import (
    DENSE,
    FEED_FORWARD_NORM,
    FRAME,
    HEAD,
    WIDE_EXPERTS,
    Layout,
    Part,
    biases,
    layers,
    self_attention,
)
from quantrecipe.model.architectures.rules import Stack
from quantrecipe.model.architectures.shared.state_space import (
    MAMBA,
    StateSpace,
    mamba_rules,
    space_lengths,
    space_pairs,
)
from quantrecipe.model.pairs import Pairs, boolean, f32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]


def _jamba(config: Config) -> StateSpace:
    width = config.need("hidden_size", "mamba_d_model")
    return StateSpace(
        inner=config.need("mamba_expand") * width,
        state=config.count("mamba_d_state") or 16,
        kernel=config.count("mamba_d_conv") or 4,
        rank=given_count(config, "mamba_dt_rank") or -(-width // 16),
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
        f"{arch}.attention.layer_norm_rms_epsilon": f32(
            config.number("layer_norm_epsilon", "rms_norm_eps") or 1e-6
        ),
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
    return f"has a mamba_expand of {factor}; {EXPANSION}" if factor != 2 else None


def _jamba_tokenizer(config: Config, pairs: Pairs) -> Pairs:
    """Text gets no space in front where the vocabulary is that of a tokenizer.json."""
    if (config.folder / "tokenizer.model").is_file():
        return pairs
    return pairs | {"tokenizer.ggml.add_space_prefix": boolean(False)}


JAMBA = Architecture(
    name="jamba",
    classes=("JambaForCausalLM",),
    layout=Layout(
        required=FRAME | FEED_FORWARD_NORM,
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

ALL = (JAMBA,)
