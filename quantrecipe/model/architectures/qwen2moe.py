"""Qwen1.5-MoE and Qwen2-MoE: routed experts, and one that is always asked."""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.experts import ExpertNames
from quantrecipe.model.architectures.layout import EXPERTS, HEAD, Layout, Shapes, attention, biases, layers
from quantrecipe.model.pairs import Pairs, u32

__all__ = ["EXPERT_NAMES", "QWEN2MOE", "expert_lengths"]

EXPERT_NAMES = ExpertNames(
    module="mlp.experts",
    matrices={
        matrix: f"model.layers.{{layer}}.mlp.experts.{matrix}.weight"
        for matrix in ("down_proj", "gate_proj", "up_proj")
    },
)
"""Qwen3-MoE's too."""

_SHARED_LENGTH = "shared_expert_intermediate_size"
_SHARED_EXPERT: Shapes = layers(
    {
        "mlp.shared_expert_gate.weight": ("hidden_size",),
        "mlp.shared_expert.gate_proj.weight": (_SHARED_LENGTH, "hidden_size"),
        "mlp.shared_expert.up_proj.weight": (_SHARED_LENGTH, "hidden_size"),
        "mlp.shared_expert.down_proj.weight": ("hidden_size", _SHARED_LENGTH),
    }
)


def expert_lengths(arch: str, config: Config) -> Pairs:
    """Feed-forward lengths of a routed and of the shared expert, where config.json has them."""
    lengths = {
        f"{arch}.expert_feed_forward_length": config.count("moe_intermediate_size"),
        f"{arch}.expert_shared_feed_forward_length": config.count(_SHARED_LENGTH),
    }
    return {key: u32(length) for key, length in lengths.items() if length is not None}


QWEN2MOE = Architecture(
    name="qwen2moe",
    classes=("Qwen2MoeForCausalLM",),
    layout=Layout(
        required=attention("hidden_size") | HEAD | EXPERTS | _SHARED_EXPERT,
        optional=biases("hidden_size"),
    ),
    defaults={
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "num_experts": 60,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
    },
    experts=EXPERT_NAMES,
    pairs=lambda config: expert_lengths("qwen2moe", config),
)
