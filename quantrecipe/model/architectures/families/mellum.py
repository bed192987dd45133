"""JetBrains' Mellum 2: experts in every layer, and a sliding window in most."""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.qwen import EXPERTS_RULES
from quantrecipe.model.architectures.hyperparameters import count_pairs, sliding_pattern
from quantrecipe.model.architectures.layout import EXPERTS, HEAD, QK_NORMS, Layout, attention, biases
from quantrecipe.model.pairs import Pairs
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]


def _pairs(config: Config) -> Pairs:
    lengths = {"expert_feed_forward_length": ("moe_intermediate_size",)}
    window = {"attention.sliding_window": ("sliding_window",)}
    pairs = count_pairs("mellum", config, lengths)
    if config.flag("use_sliding_window") is False or config.count("sliding_window") is None:
        return pairs
    return pairs | count_pairs("mellum", config, window) | sliding_pattern("mellum", config)


MELLUM = Architecture(
    name="mellum",
    classes=("MellumForCausalLM",),
    layout=Layout(required=attention() | HEAD | QK_NORMS | EXPERTS, optional=biases()),
    rules=EXPERTS_RULES,
    pairs=_pairs,
    names_of="qwen3moe",
    vocabulary=Vocabulary(kinds=("bpe",), pre=("mellum2",)),
)

ALL = (MELLUM,)
