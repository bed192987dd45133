"""length: the lengths that tensors have, worked out of config.json as llama.cpp works them out of the GGUF."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import (
    EXPERTS,
    EXPERTS_USED,
    FEED_FORWARD,
    HEADS,
    HIDDEN,
    KV_HEADS,
    head_dim,
)

__all__ = ["length"]


def length(config: Config, name: str) -> int:
    """A length by its name in a Layout. ModelError where config.json doesn't give what it takes."""
    return _LENGTHS[name](config)


def _kv_heads(config: Config) -> int:
    return config.need(*HEADS) if config.count(*KV_HEADS) is None else config.need(*KV_HEADS)


def _expert_length(config: Config) -> int:
    given = config.count("moe_intermediate_size")
    return given or config.need(*FEED_FORWARD) // config.need(*EXPERTS_USED)


_LENGTHS: Mapping[str, Callable[[Config], int]] = {
    "vocab_size": lambda config: config.need("vocab_size"),
    "hidden_size": lambda config: config.need(*HIDDEN),
    "intermediate_size": lambda config: config.need(*FEED_FORWARD),
    "num_attention_heads · head_dim": lambda config: config.need(*HEADS) * head_dim(config),
    "num_key_value_heads · head_dim": lambda config: _kv_heads(config) * head_dim(config),
    "head_dim": head_dim,
    "head_dim / 2": lambda config: head_dim(config) // 2,
    "num_experts": lambda config: config.need(*EXPERTS),
    "moe_intermediate_size": _expert_length,
    "shared_expert_intermediate_size": lambda config: (
        config.count("shared_expert_intermediate_size") or config.need(*FEED_FORWARD)
    ),
}
