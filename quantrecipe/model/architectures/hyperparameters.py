"""The keys that every architecture's GGUF has: sizes, heads, rotary embedding, norms, experts.

Which names config.json may use for one thing, and in which order the keys stand, follows llama.cpp's converter.
"""

from __future__ import annotations

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.rope import rope_pairs
from quantrecipe.model.pairs import Pairs, boolean, f32, u32

__all__ = ["LAYERS", "common_pairs", "head_dim", "rope_dimensions", "vocab_size"]

LAYERS = ("n_layers", "num_hidden_layers", "n_layer", "num_layers")

_SIZES = {
    "context_length": (
        "max_position_embeddings", "n_ctx", "n_positions", "max_length", "max_sequence_length", "model_max_length",
    ),
    "embedding_length": ("hidden_size", "n_embd", "dim"),
    "feed_forward_length": (
        "prefix_dense_intermediate_size", "dense_intermediate_size", "intermediate_size", "n_inner", "hidden_dim",
    ),
    "attention.head_count": ("num_attention_heads", "n_head", "n_heads"),
    "attention.head_count_kv": ("num_key_value_heads", "n_kv_heads"),
}  # fmt: skip
_NORMS = {
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
}
_EXPERTS = {
    "expert_count": ("num_local_experts", "num_experts", "n_routed_experts"),
    "expert_used_count": ("num_experts_per_tok", "num_experts_per_token", "top_k_experts"),
    "expert_group_count": ("n_group",),
    "expert_group_used_count": ("topk_group",),
}


def common_pairs(arch: str, config: Config) -> Pairs:
    """The common keys, from block_count to the length of keys and values."""
    pairs: Pairs = {f"{arch}.block_count": u32(config.need(*LAYERS))}
    _add_counts(pairs, arch, config, _SIZES)
    if config.find("is_causal") is False:
        pairs[f"{arch}.attention.causal"] = boolean(False)
    pairs |= rope_pairs(arch, config)
    for key, names in _NORMS.items():
        if (number := config.number(*names)) is not None:
            pairs[f"{arch}.{key}"] = f32(number)
    _add_counts(pairs, arch, config, _EXPERTS)
    if (length := config.count("head_dim")) is not None:
        pairs[f"{arch}.attention.key_length"] = u32(length)
        pairs[f"{arch}.attention.value_length"] = u32(length)
    return pairs


def head_dim(config: Config) -> int:
    """Length of an attention head."""
    given = config.count("head_dim")
    return given if given is not None else config.need("hidden_size") // config.need("num_attention_heads")


def vocab_size(config: Config) -> int | None:
    """Rows of the embedding, None where config.json doesn't say."""
    return config.count("vocab_size")


def rope_dimensions(arch: str, config: Config) -> Pairs:
    """The keys that llama's GGUFs have beyond the common ones."""
    return {
        f"{arch}.vocab_size": u32(config.need("vocab_size")),
        f"{arch}.rope.dimension_count": u32(head_dim(config)),
    }


def _add_counts(pairs: Pairs, arch: str, config: Config, table: dict[str, tuple[str, ...]]) -> None:
    for key, names in table.items():
        if (number := config.count(*names)) is not None:
            pairs[f"{arch}.{key}"] = u32(number)
