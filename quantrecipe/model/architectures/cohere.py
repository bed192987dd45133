"""Cohere's Command R: attention and feed-forward network side by side, so that a layer has one norm for both.

    command-r   Command R, R+ and Aya: no sliding window; the two largest have norms on q and k
    cohere2     Command R7B and A: three of four layers see a sliding window
    cohere2moe  the same with experts, and draft heads

The embedding is the output, but for the last. Llama.cpp has rotary positions unscaled here, whatever config.json says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.experts import (
    DRAFT,
    DRAFT_NAMES,
    draft_count,
    drafts,
    with_drafts,
)
from quantrecipe.model.architectures.hyperparameters import (
    HEADS,
    HIDDEN,
    LAYERS,
    count_pairs,
    number_pairs,
    sliding_pattern,
)
from quantrecipe.model.architectures.layout import DENSE, HEAD, Layout, Part, attention, biases, layers
from quantrecipe.model.architectures.qwen import EXPERTS_RULES
from quantrecipe.model.architectures.rules import Each, Found, Named
from quantrecipe.model.pairs import Pairs, boolean, text, u32
from quantrecipe.model.source.reading import read_whole
from quantrecipe.model.source.source import fail
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL", "COHERE2MOE"]

_NORMED_LAYERS = 64
"""llama.cpp looks for norms on q and k in models of so many layers and more."""

_WINDOW = {"attention.sliding_window": ("sliding_window",)}
_VOCABULARY = Vocabulary(kinds=("bpe",), pre=("command-r",))
_LOGITS = {"logit_scale": ("logit_scale",)}


def _unscaled(arch: str) -> Pairs:
    """The key that says: no scaling of the rotary positions."""
    return {f"{arch}.rope.scaling.type": text("none")}


def _without_biases(it: Found) -> Iterable[Named]:
    """Biases, for which llama.cpp has no place, are left out where they are zeros."""
    with TensorReader() as reader:
        if read_whole(it.source, reader, tensor=it.name).any():
            fail(it.source, "has biases that aren't zero, and llama.cpp has none here", "use another model")
    return ()


_NO_BIASES = Each(names="{name:*}.bias", make=_without_biases)


def _trained_context(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """max_position_embeddings is 8192 in the first Command R's config.json, though it was trained on 128 K."""
    length = values.get("model_max_length")
    return values if length is None else {**values, "max_position_embeddings": length}


def _command_r_pairs(config: Config) -> Pairs:
    return number_pairs("command-r", config, _LOGITS) | _unscaled("command-r")


COMMAND_R = Architecture(
    name="command-r",
    classes=("CohereForCausalLM",),
    layout=Layout(
        required=attention("hidden_size", norms=("attn_norm",)) | DENSE,
        optional=biases("hidden_size"),
        parts=(
            Part(
                where=lambda config: (
                    range(config.need(*LAYERS)) if config.need(*LAYERS) >= _NORMED_LAYERS else ()
                ),
                required=layers(
                    {
                        "attn_q_norm.weight": ("num_attention_heads", "head_dim"),
                        "attn_k_norm.weight": ("num_key_value_heads", "head_dim"),
                    }
                ),
            ),
        ),
    ),
    adjust=_trained_context,
    pairs=_command_r_pairs,
    vocabulary=_VOCABULARY,
)


def _cohere2_pairs(config: Config) -> Pairs:
    part = config.number("rotary_pct")
    turning = int((1.0 if part is None else part) * (config.need(*HIDDEN) // config.need(*HEADS)))
    return (
        number_pairs("cohere2", config, _LOGITS)
        | count_pairs("cohere2", config, _WINDOW | {"vocab_size": ("vocab_size",)})
        | {"cohere2.rope.dimension_count": u32(turning)}
        | _unscaled("cohere2")
    )


COHERE2 = Architecture(
    name="cohere2",
    classes=("Cohere2ForCausalLM",),
    layout=Layout(required=attention("hidden_size", norms=("attn_norm",)) | DENSE),
    rules=(_NO_BIASES,),
    pairs=_cohere2_pairs,
    vocabulary=_VOCABULARY,
)


def _dense_count(config: Config) -> int:
    """How many layers have no experts: the first ones."""
    kinds = config.per_layer(config.need(*LAYERS), "mlp_layer_types")
    if kinds is None:
        return config.count("first_k_dense_replace") or 0
    return next((layer for layer, kind in enumerate(kinds) if kind != "dense"), len(kinds))


def _moe_pairs(config: Config) -> Pairs:
    arch, length = "cohere2moe", config.need("intermediate_size")
    shared, heads = config.count("num_shared_experts") or 0, draft_count(config)
    pairs = {
        **number_pairs(arch, config, _LOGITS),
        **count_pairs(arch, config, _WINDOW),
        **sliding_pattern(arch, config),
        **count_pairs(arch, config, {"vocab_size": ("vocab_size",)}),
        f"{arch}.expert_feed_forward_length": u32(length),
        f"{arch}.leading_dense_block_count": u32(_dense_count(config)),
        f"{arch}.expert_weights_norm": boolean(bool(config.flag("norm_topk_prob"))),
    }
    if shared:
        pairs[f"{arch}.expert_shared_count"] = u32(shared)
        pairs[f"{arch}.expert_shared_feed_forward_length"] = u32(length * shared)
    if heads:
        pairs[f"{arch}.nextn_predict_layers"] = u32(heads)
    return pairs | {f"{arch}.rope.dimension_count": u32(config.need("head_dim"))} | _unscaled(arch)


def _refuse_moe(config: Config) -> str | None:
    how = config.find("shared_expert_combination_strategy")
    if config.count("num_shared_experts") and how not in (None, "average"):
        return f"joins shared experts by {shown(how)}, and llama.cpp by their average only"
    return None


def _expert(config: Config, layer: int) -> int:
    return config.need("intermediate_size")


def _shared(config: Config, layer: int) -> int:
    return (config.count("num_shared_experts") or 0) * config.need("intermediate_size")


def _with_experts(config: Config) -> range:
    """Draft heads have experts, too."""
    return range(_dense_count(config), with_drafts(config))


COHERE2MOE = Architecture(
    name="cohere2moe",
    classes=("Cohere2MoeForCausalLM",),
    layout=Layout(
        required=attention(norms=("attn_norm",)),
        optional=HEAD,
        parts=(
            Part(where=lambda config: range(_dense_count(config)), required=DENSE),
            Part(
                where=_with_experts,
                required=layers(
                    {
                        "ffn_gate_inp.weight": ("num_experts", "hidden_size"),
                        "ffn_gate_exps.weight": ("num_experts", "expert", "hidden_size"),
                        "ffn_up_exps.weight": ("num_experts", "expert", "hidden_size"),
                        "ffn_down_exps.weight": ("num_experts", "hidden_size", "expert"),
                    }
                ),
            ),
            Part(
                where=lambda config: _with_experts(config) if config.count("num_shared_experts") else (),
                required=layers(
                    {
                        "ffn_gate_shexp.weight": ("shared", "hidden_size"),
                        "ffn_up_shexp.weight": ("shared", "hidden_size"),
                        "ffn_down_shexp.weight": ("hidden_size", "shared"),
                    }
                ),
            ),
            DRAFT,
        ),
        drafts=drafts,
    ),
    lengths={"expert": _expert, "shared": _shared},
    refuse=_refuse_moe,
    layers=with_drafts,
    rules=(_NO_BIASES, *EXPERTS_RULES),
    pairs=_moe_pairs,
    names=DRAFT_NAMES
    | {
        f"model.layers.{{layer}}.mlp.{stored}": f"blk.{{layer}}.{name}"
        for stored, name in {
            "gate": "ffn_gate_inp",
            "experts.gate_proj": "ffn_gate_exps",
            "experts.up_proj": "ffn_up_exps",
            "experts.down_proj": "ffn_down_exps",
            "shared_experts.gate_proj": "ffn_gate_shexp",
            "shared_experts.up_proj": "ffn_up_shexp",
            "shared_experts.down_proj": "ffn_down_shexp",
        }.items()
    },
    names_of="cohere2",
    vocabulary=Vocabulary(kinds=("bpe",), pre=("cohere2moe",)),
)

ALL = (COMMAND_R, COHERE2, COHERE2MOE)
