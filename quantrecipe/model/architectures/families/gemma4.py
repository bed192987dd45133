"""Gemma 4: two kinds of layers, one with a sliding window and one without, that have heads of different lengths.

    E2B, E4B      an embedding for each layer; the last layers use the keys and values of earlier ones
    31B           full attention without v: the keys serve as values
    26B-A4B       experts besides the dense feed-forward, whose scales go by the names of their matrices
    assistants    draft models, which use the keys and values of the model that they draft for

Layers without a window rotate a part of each head only: `rope_freqs` divides the other frequencies by so much that
nothing turns. Pictures and sound are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.families.gemma import gemma3_pairs
from quantrecipe.model.architectures.hyperparameters import (
    KV_HEADS,
    LAYERS,
    count_pairs,
    sliding_layers,
    sliding_pattern,
)
from quantrecipe.model.architectures.layout import DENSE, HEAD, POST_NORMS, Layout, Part, Shapes, layers
from quantrecipe.model.architectures.rope import full_attention, partial_factors, rotated
from quantrecipe.model.architectures.rules import language_name, rename
from quantrecipe.model.json_file import read_json_object
from quantrecipe.model.pairs import Pairs, i32s, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary
from quantrecipe.units import whole_number

__all__ = ["ALL"]

_FULL_HEAD = 512  # transformers: Gemma4TextConfig, global_head_dim
_FULL_PART = 0.25  # transformers: Gemma4TextConfig, partial_rotary_factor of full attention

_EXPERT_LENGTH = ("expert_intermediate_size", "moe_intermediate_size")


def _of_full_layers(config: Config, name: str) -> int | None:
    """What layers without a window have instead of the others' `name`, where config.json says so layer by layer."""
    given = config.find("per_layer_config")
    if isinstance(given, Mapping):
        # "01" is layer 1, and Python reads only so many digits
        own = {number: it for layer, it in given.items() if (number := whole_number(layer)) is not None}
        full = (own.get(layer) for layer, sliding in enumerate(sliding_layers(config)) if not sliding)
        parts = (replace(config, values=it) for it in full if isinstance(it, Mapping))
        return next((number for part in parts if (number := part.count(name)) is not None), None)
    return None


def _full_head_dim(config: Config) -> int:
    return config.count("global_head_dim") or _of_full_layers(config, "head_dim") or _FULL_HEAD


def _full_kv_heads(config: Config) -> int | None:
    """Key-value heads of layers without a window; None where they have as many as the others."""
    if config.flag("attention_k_eq_v") is False:
        return None
    return config.count("num_global_key_value_heads") or _of_full_layers(config, "num_key_value_heads")


def _head_dim(config: Config, layer: int) -> int:
    return config.need("head_dim") if sliding_layers(config)[layer] else _full_head_dim(config)


def _kv_heads(config: Config, layer: int) -> int:
    full = None if sliding_layers(config)[layer] else _full_kv_heads(config)
    return full or config.need(*KV_HEADS)


def _with_own_keys(config: Config) -> range:
    """The layers that don't use the keys and values of earlier ones."""
    return range(config.need(*LAYERS) - (config.count("num_kv_shared_layers") or 0))


def _feed_forward(config: Config, layer: int) -> int:
    twice = config.flag("use_double_wide_mlp") and layer not in _with_own_keys(config)
    return config.need("intermediate_size") * (2 if twice else 1)


def _with_own_values(config: Config) -> list[int]:
    keys_serve = bool(config.flag("attention_k_eq_v"))
    return [it for it in _with_own_keys(config) if sliding_layers(config)[it] or not keys_serve]


def _others(config: Config) -> set[int]:
    return set(range(config.need(*LAYERS))) - set(_with_own_values(config))


def _with_experts(config: Config) -> range:
    return range(config.need(*LAYERS) if config.flag("enable_moe_block") else 0)


def _with_embeddings(config: Config) -> range:
    return range(config.need(*LAYERS) if config.count("hidden_size_per_layer_input") else 0)


_PER_LAYER = "hidden_size_per_layer_input"
_Q, _KV = "num_attention_heads · head_dim", "num_key_value_heads · head_dim"

_ALWAYS: Shapes = {
    "token_embd.weight": ("vocab_size", "hidden_size"),
    "output_norm.weight": ("hidden_size",),
} | layers(
    {
        "attn_norm.weight": ("hidden_size",),
        "attn_q.weight": (_Q, "hidden_size"),
        "attn_output.weight": ("hidden_size", _Q),
        "attn_q_norm.weight": ("head_dim",),
        "ffn_norm.weight": ("hidden_size",),
    }
)
_SCALE: Shapes = layers({"layer_output_scale.weight": ("1",)})
_KEYS: Shapes = layers({"attn_k.weight": (_KV, "hidden_size"), "attn_k_norm.weight": ("head_dim",)})
_VALUES: Shapes = layers({"attn_v.weight": (_KV, "hidden_size")})

_EMBEDDINGS = Part(
    where=_with_embeddings,
    required={
        "per_layer_token_embd.weight": ("vocab_size", f"{_PER_LAYER} · num_hidden_layers"),
        "per_layer_model_proj.weight": (f"{_PER_LAYER} · num_hidden_layers", "hidden_size"),
        "per_layer_proj_norm.weight": (_PER_LAYER,),
    }
    | layers(
        {
            "inp_gate.weight": (_PER_LAYER, "hidden_size"),
            "proj.weight": ("hidden_size", _PER_LAYER),
            "post_norm.weight": ("hidden_size",),
        }
    ),
)

_EXPERTS = Part(
    where=_with_experts,
    required=layers(
        {
            "ffn_gate_inp.weight": ("num_experts", "hidden_size"),
            "ffn_gate_inp.scale": ("hidden_size",),
            "ffn_gate_up_exps.weight": ("num_experts", "2 · expert_intermediate_size", "hidden_size"),
            "ffn_down_exps.weight": ("num_experts", "hidden_size", "expert_intermediate_size"),
            "ffn_down_exps.scale": ("num_experts",),
            "pre_ffw_norm_2.weight": ("hidden_size",),
            "post_ffw_norm_1.weight": ("hidden_size",),
            "post_ffw_norm_2.weight": ("hidden_size",),
        }
    ),
)


def _pairs(arch: str, config: Config) -> Pairs:
    pairs = gemma3_pairs(arch, config)
    pairs[f"{arch}.attention.shared_kv_layers"] = u32(config.count("num_kv_shared_layers") or 0)
    pairs[f"{arch}.embedding_length_per_layer_input"] = u32(config.count(_PER_LAYER) or 0)
    pairs |= sliding_pattern(arch, config)
    full = _full_head_dim(config)
    for name in ("key", "value"):  # the common keys have the length of the others
        pairs[f"{arch}.attention.{name}_length"] = u32(full)
    for name in ("key", "value"):
        pairs[f"{arch}.attention.{name}_length_swa"] = u32(config.need("head_dim"))
    pairs |= count_pairs(arch, config, {"expert_feed_forward_length": _EXPERT_LENGTH})
    count = config.need(*LAYERS)
    if config.flag("use_double_wide_mlp"):
        pairs[f"{arch}.feed_forward_length"] = i32s([_feed_forward(config, layer) for layer in range(count)])
    if _full_kv_heads(config) is not None:
        pairs[f"{arch}.attention.head_count_kv"] = i32s([_kv_heads(config, layer) for layer in range(count)])
    pairs[f"{arch}.rope.dimension_count"] = u32(full)
    pairs[f"{arch}.rope.dimension_count_swa"] = u32(config.need("head_dim"))
    return pairs


def _unified_pairs(config: Config) -> Pairs:
    """Tokens that are never to be chosen, on top of Gemma 4's keys: generation_config.json lists them."""
    pairs = _pairs("gemma4", config)
    file = config.folder / "generation_config.json"
    tokens = read_json_object(file).get("suppress_tokens") if file.is_file() else None
    if isinstance(tokens, list) and tokens:
        if not all(isinstance(it, int) and not isinstance(it, bool) and 0 <= it < 2**31 for it in tokens):
            config.fail("has a generation_config.json whose suppress_tokens aren't all tokens' numbers")
        pairs["tokenizer.ggml.suppress_tokens"] = i32s(tokens)
    return pairs


def _assistant_pairs(config: Config) -> Pairs:
    pairs = _pairs("gemma4-assistant", config)
    pairs["gemma4-assistant.embedding_length_out"] = u32(config.need("backbone_hidden_size"))
    pairs["gemma4-assistant.nextn_predict_layers"] = u32(config.need(*LAYERS))
    return pairs


def _computed(config: Config) -> Mapping[str, bytes]:
    """What frequencies of layers without a window are divided by, since they rotate a part of each head."""
    length = _full_head_dim(config)
    part = rotated(full_attention(config), length, _FULL_PART)
    return {"rope_freqs.weight": partial_factors(part, length)}


def _refuse(config: Config) -> str | None:
    kind = full_attention(config).rope.get("rope_type")
    if kind != "proportional":
        return f"has full_attention layers of rope_type {shown(kind)} (what llama.cpp has: proportional)"
    if config.find("attn_logit_softcapping") is not None:
        return "has attn_logit_softcapping, which llama.cpp's gemma4 doesn't have"
    return None


def _rename(name: str) -> str | None:
    """Names of stacks of experts and of a layer's scale have no end; what picks tokens for an assistant is left out."""
    if "masked_embedding" in name:
        return None
    if name.endswith(("layer_scalar", ".experts.gate_up_proj", ".experts.down_proj")):
        name += ".weight"
    return language_name(name)


GEMMA4 = Architecture(
    name="gemma4",
    classes=("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"),
    layout=Layout(
        required=_ALWAYS | DENSE | POST_NORMS,
        optional=HEAD | _SCALE | {"rope_freqs.weight": ("global_head_dim / 2",)},
        parts=(
            Part(where=_others, optional=_KEYS | _VALUES, loose=True),
            Part(where=_with_own_keys, required=_KEYS),
            Part(where=_with_own_values, required=_VALUES),
            _EMBEDDINGS,
            _EXPERTS,
        ),
    ),
    lengths={
        "head_dim": _head_dim,
        "num_key_value_heads": _kv_heads,
        "intermediate_size": _feed_forward,
        "expert_intermediate_size": lambda config, layer: config.need(*_EXPERT_LENGTH),
        "global_head_dim / 2": lambda config, layer: _full_head_dim(config) // 2,
    },
    rename=_rename,
    rules=(
        rename("model.layers.{layer}.router.scale", "blk.{layer}.ffn_gate_inp.scale"),
        rename("model.layers.{layer}.router.per_expert_scale", "blk.{layer}.ffn_down_exps.scale"),
    ),
    computed=_computed,
    vocabulary=Vocabulary(kinds=("gemma4",)),
    pairs=lambda config: _pairs("gemma4", config),
    refuse=_refuse,
)

UNIFIED = replace(GEMMA4, classes=("Gemma4UnifiedForConditionalGeneration",), pairs=_unified_pairs)

ASSISTANT = replace(
    GEMMA4,
    name="gemma4-assistant",
    names_of="gemma4",
    classes=("Gemma4AssistantForCausalLM", "Gemma4UnifiedAssistantForCausalLM"),
    layout=Layout(
        required=_ALWAYS
        | DENSE
        | POST_NORMS
        | _SCALE
        | {
            "nextn.pre_projection.weight": ("hidden_size", "2 · backbone_hidden_size"),
            "nextn.post_projection.weight": ("backbone_hidden_size", "hidden_size"),
        },
        optional={"rope_freqs.weight": ("global_head_dim / 2",)},
    ),
    names={"pre_projection": "nextn.pre_projection", "post_projection": "nextn.post_projection"},
    pairs=_assistant_pairs,
)

ALL = (GEMMA4, UNIFIED, ASSISTANT)
