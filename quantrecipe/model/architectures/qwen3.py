"""Qwen3: norms on q and k, and heads of a length of their own."""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.layout import DENSE, HEAD, QK_NORMS, Layout, attention, biases
from quantrecipe.model.architectures.pooling import pooling_pairs

__all__ = ["QWEN3"]


def refuse(config: Config) -> str | None:
    """Rerankers go by the class name of the language model; their output head is two rows of it."""
    names = (config.folder.absolute().name, str(config.find("_name_or_path")))
    if any("qwen3-reranker" in name.lower() for name in names):
        return "is a reranker, whose output head has to be cut from the language model's"
    return None


QWEN3 = Architecture(
    name="qwen3",
    classes=("Qwen3ForCausalLM",),
    layout=Layout(required=attention() | QK_NORMS | DENSE, optional=HEAD | biases()),
    defaults={
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
    },
    derive={"num_key_value_heads": lambda values: values.get("num_attention_heads")},
    pairs=lambda config: pooling_pairs("qwen3", config),
    refuse=refuse,
)
