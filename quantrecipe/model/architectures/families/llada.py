"""LLaDA MoE, from InclusionAI: a diffusion model with experts, whose tokens see what comes after them, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.qwen import EXPERTS_RULES
from quantrecipe.model.architectures.hyperparameters import count_pairs
from quantrecipe.model.architectures.layout import EXPERTS, HEAD, QK_NORMS, Layout, attention, biases
from quantrecipe.model.pairs import Pairs, boolean, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_MASK = 156_895  # conversion/llada.py: config.json doesn't tell it


def _values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The length of an expert by the name that others have for it."""
    return {**values, "moe_intermediate_size": values.get("expert_intermediate_size")}


def _pairs(config: Config) -> Pairs:
    return {
        **count_pairs("llada-moe", config, {"expert_feed_forward_length": ("moe_intermediate_size",)}),
        "tokenizer.ggml.mask_token_id": u32(_MASK),
        "llada-moe.attention.causal": boolean(False),
        "diffusion.shift_logits": boolean(False),
    }


LLADA_MOE = Architecture(
    name="llada-moe",
    classes=("LLaDAMoEModel", "LLaDAMoEModelLM"),
    layout=Layout(
        required=attention("hidden_size") | QK_NORMS | HEAD | EXPERTS,
        optional=biases("hidden_size"),
    ),
    default_theta=None,
    adjust=_values,
    pairs=_pairs,
    rules=EXPERTS_RULES,
    vocabulary=Vocabulary(kinds=("bpe",), pre=("llada-moe",)),
)

ALL = (LLADA_MOE,)
