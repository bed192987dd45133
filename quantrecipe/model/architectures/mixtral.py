"""Mixtral: to llama.cpp a llama, with experts."""

from __future__ import annotations

from quantrecipe.model.architectures import llama
from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.experts import ExpertNames
from quantrecipe.model.architectures.layout import Layout, attention, layers

__all__ = ["MIXTRAL"]

MIXTRAL = Architecture(
    name="llama",
    classes=("MixtralForCausalLM",),
    layout=Layout(
        required=attention()
        | layers(
            {
                "block_sparse_moe.gate.weight": ("num_experts", "hidden_size"),
                "block_sparse_moe.experts.w1.weight": ("num_experts", "intermediate_size", "hidden_size"),
                "block_sparse_moe.experts.w2.weight": ("num_experts", "hidden_size", "intermediate_size"),
                "block_sparse_moe.experts.w3.weight": ("num_experts", "intermediate_size", "hidden_size"),
            }
        ),
        optional=llama.OPTIONAL,
    ),
    defaults={
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
    default_theta=1_000_000.0,
    derive={"num_key_value_heads": lambda values: values.get("num_attention_heads")},
    rotary=True,
    experts=ExpertNames(
        module="block_sparse_moe.experts",
        matrices={w: f"layers.{{layer}}.feed_forward.experts.{w}.weight" for w in ("w1", "w2", "w3")},
    ),
    pairs=llama.pairs,
    tokenizer=llama.tokenizer,
    computed=llama.computed,
)
