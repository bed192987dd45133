"""The keys that every architecture's GGUF has: sizes, heads, rotary embedding, norms, experts.

Which names config.json may use for one thing, and in which order the keys stand, follows llama.cpp's converter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.rope import rope_pairs
from quantrecipe.model.pairs import Pairs, boolean, booleans, f32, i32s, u32

__all__ = [
    "EXPERTS",
    "EXPERTS_USED",
    "FEED_FORWARD",
    "HEADS",
    "HIDDEN",
    "KV_HEADS",
    "LAYERS",
    "SHARED_EXPERTS",
    "Table",
    "check_experts",
    "common_pairs",
    "count_pairs",
    "gating_pairs",
    "head_dim",
    "number_pairs",
    "rope_dimensions",
    "sliding_layers",
    "sliding_pattern",
]

LAYERS = ("n_layers", "num_hidden_layers", "n_layer", "num_layers")
HIDDEN = ("hidden_size", "n_embd", "dim")
FEED_FORWARD = (
    "prefix_dense_intermediate_size", "dense_intermediate_size", "intermediate_size", "n_inner", "hidden_dim",
)  # fmt: skip
HEADS = ("num_attention_heads", "n_head", "n_heads")
KV_HEADS = ("num_key_value_heads", "n_kv_heads")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
SHARED_EXPERTS = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
EXPERTS_USED = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts")

Table: TypeAlias = Mapping[str, tuple[str, ...]]
"""A key without the architecture's name → the names under which config.json may have it."""

_SIZES = {
    "context_length": (
        "max_position_embeddings", "n_ctx", "n_positions", "max_length", "max_sequence_length", "model_max_length",
    ),
    "embedding_length": HIDDEN,
    "feed_forward_length": FEED_FORWARD,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV_HEADS,
}  # fmt: skip
_RMS = ("rms_norm_eps", "norm_eps")
_LAYER_NORM = ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")
_NORMS = {
    "attention.layer_norm_rms_epsilon": _RMS,
    "attention.layer_norm_epsilon": _LAYER_NORM,
}
_GATING = (
    "score_function", "scoring_func", "score_func", "moe_router_activation", "moe_router_activation_func",
    "expert_selection_fn",
)  # fmt: skip
_GATING_KINDS = {
    "softmax": 1,
    "sigmoid": 2,
    "sqrtsoftplus": 4,
}  # llama.cpp: enum llama_expert_gating_func_type
_EXPERTS = {
    "expert_count": EXPERTS,
    "expert_used_count": EXPERTS_USED,
    "expert_group_count": ("n_group",),
    "expert_group_used_count": ("topk_group",),
}


def common_pairs(arch: str, config: Config, *, epsilon: bool = True, used: bool = True) -> Pairs:
    """The common keys, from block_count to the length of keys and values.

    Of some architectures config.json has no `epsilon` of norms under a usual name, or doesn't tell under a usual name
    how many experts are `used` for each token: these make the keys themselves.
    """
    config.need(*_SIZES["context_length"])  # without these two, llama.cpp doesn't load the model
    if epsilon and config.number(*_RMS) is None and config.number(*_LAYER_NORM) is None:
        config.fail("has no rms_norm_eps (expected: a number)")
    if used:
        check_experts(config)
    pairs: Pairs = {f"{arch}.block_count": u32(config.need(*LAYERS))}
    pairs |= count_pairs(arch, config, _SIZES)
    if config.find("is_causal") is False:
        pairs[f"{arch}.attention.causal"] = boolean(False)
    pairs |= rope_pairs(arch, config)
    pairs |= number_pairs(arch, config, _NORMS)
    pairs |= count_pairs(arch, config, _EXPERTS)
    pairs |= gating_pairs(arch, config)
    if (length := config.count("head_dim")) is not None:
        pairs[f"{arch}.attention.key_length"] = u32(length)
        pairs[f"{arch}.attention.value_length"] = u32(length)
    return pairs


def gating_pairs(arch: str, config: Config) -> Pairs:
    """Make the key of the function by which experts are chosen, where config.json names one."""
    named = config.find(*_GATING)
    if named is None:
        return {}
    if not isinstance(named, str) or named not in _GATING_KINDS:
        kinds = ", ".join(_GATING_KINDS)
        what = f"says {config.called(*_GATING)}: {shown(named)} (what llama.cpp has: {kinds})"
        config.fail(what, "no GGUF of this architecture can hold the model")
    return {f"{arch}.expert_gating_func": u32(_GATING_KINDS[named])}


def head_dim(config: Config) -> int:
    """Return the length of an attention head."""
    if config.count("head_dim") is not None:
        return config.need("head_dim")
    return config.need(*HIDDEN) // config.need(*HEADS)


def check_experts(config: Config) -> None:
    """llama.cpp stops where tokens are sent to more experts than there are, or to none."""
    experts, used = config.count(*EXPERTS) or 0, config.count(*EXPERTS_USED) or 0
    if used > experts or (experts and not used):
        what = (
            f"says that each token is sent to {used} of {experts} experts (expected: 1 or more, at most all)"
        )
        config.fail(what, f"correct {config.called(*EXPERTS_USED)} or {config.called(*EXPERTS)}")


def rope_dimensions(arch: str, config: Config) -> Pairs:
    """Make the keys that llama's GGUFs have beyond the common ones."""
    return {
        f"{arch}.vocab_size": u32(config.need("vocab_size")),
        f"{arch}.rope.dimension_count": u32(head_dim(config)),
    }


def sliding_layers(config: Config) -> list[bool]:
    """Which layers see a sliding window only, by their types."""
    types = config.per_layer(config.need(*LAYERS), "layer_types")
    if types is None:
        config.fail('has no layer_types (expected: "sliding_attention" or "full_attention" for each layer)')
    return [kind == "sliding_attention" for kind in types]


def sliding_pattern(arch: str, config: Config) -> Pairs:
    """Make the key that says which layers see a sliding window only."""
    return {f"{arch}.attention.sliding_window_pattern": booleans(sliding_layers(config))}


def count_pairs(arch: str, config: Config, table: Table) -> Pairs:
    """Make keys of whole numbers: name of the key → names in config.json. A list, of one for each layer, stays one."""
    pairs: Pairs = {}
    for key, names in table.items():
        if isinstance(config.find(*names), list):
            pairs[f"{arch}.{key}"] = i32s(config.counts(config.need(*LAYERS), *names))
        elif (number := config.count(*names)) is not None:
            pairs[f"{arch}.{key}"] = u32(number)
    return pairs


def number_pairs(arch: str, config: Config, table: Table) -> Pairs:
    """Make the keys of numbers, of those that config.json has."""
    found = {key: config.number(*names) for key, names in table.items()}
    return {f"{arch}.{key}": f32(number) for key, number in found.items() if number is not None}
