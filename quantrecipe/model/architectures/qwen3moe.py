"""Qwen3-MoE: Qwen3's attention with routed experts."""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.layout import EXPERTS, HEAD, QK_NORMS, Layout, attention, biases
from quantrecipe.model.architectures.qwen2moe import EXPERT_NAMES, expert_lengths

__all__ = ["QWEN3MOE"]

QWEN3MOE = Architecture(
    name="qwen3moe",
    classes=("Qwen3MoeForCausalLM",),
    layout=Layout(required=attention() | QK_NORMS | EXPERTS, optional=HEAD | biases()),
    defaults={
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
    },
    experts=EXPERT_NAMES,
    pairs=lambda config: expert_lengths("qwen3moe", config),
)
