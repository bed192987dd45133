"""Qwen2 and Qwen2.5: biases on q, k and v, and rows in the order that llama.cpp's NEOX rotation wants."""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.layout import DENSE, HEAD, Layout, attention, biases
from quantrecipe.model.architectures.pooling import pooling_pairs

__all__ = ["QWEN2"]

QWEN2 = Architecture(
    name="qwen2",
    classes=("Qwen2ForCausalLM",),
    layout=Layout(
        required=attention("hidden_size") | DENSE,
        optional={**HEAD, "lm_head.bias": ("vocab_size",), **biases("hidden_size")},
    ),
    defaults={
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
    },
    derive={"num_key_value_heads": lambda values: values.get("num_attention_heads")},
    pairs=lambda config: pooling_pairs("qwen2", config),
)
