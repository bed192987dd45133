"""Huawei's openPangu Embedded: Llama's frame, with a bias behind attention and Hugging Face's order of rotary pairs."""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import head_dim, rope_dimensions
from quantrecipe.model.architectures.layout import DENSE, HEAD, Layout, attention, biases, layers
from quantrecipe.model.architectures.rules import tied_output
from quantrecipe.model.pairs import Pairs, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]


def _pairs(config: Config) -> Pairs:
    """With the length of heads, also where it follows from their number."""
    length = u32(head_dim(config))
    return {
        **rope_dimensions("pangu-embedded", config),
        "pangu-embedded.attention.key_length": length,
        "pangu-embedded.attention.value_length": length,
    }


PANGU = Architecture(
    name="pangu-embedded",
    classes=("PanguEmbeddedForCausalLM",),
    layout=Layout(
        required=attention() | DENSE | layers({"attn_output.bias": ("hidden_size",)}),
        optional=HEAD | biases(),
    ),
    default_theta=None,
    pairs=_pairs,
    leaves_out=tied_output,
    vocabulary=Vocabulary(kinds=("sentencepiece",), space_prefix="tokenizer_config"),
)

ALL = (PANGU,)
