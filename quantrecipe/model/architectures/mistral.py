"""Mistral 7B and its descendants: to llama.cpp a llama, with other defaults.

The sliding window of the first Mistral has no key: llama.cpp's converter writes none for this architecture.
"""

from __future__ import annotations

from quantrecipe.model.architectures import llama
from quantrecipe.model.architectures.architecture import Architecture

__all__ = ["MISTRAL"]

MISTRAL = Architecture(
    name="llama",
    classes=("MistralForCausalLM",),
    layout=llama.DENSE_LAYOUT,
    defaults={
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
    },
    derive={
        "head_dim": llama.even_heads,
        "num_key_value_heads": lambda values: values.get("num_attention_heads"),
    },
    rotary=True,
    pairs=llama.pairs,
    tokenizer=llama.tokenizer,
    computed=llama.computed,
    refuse=llama.refuse,
)
