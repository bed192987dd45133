"""SmallThinker: experts that are chosen in front of attention; three of four layers may see a sliding window only.

llama.cpp has this window and its layers built in: sliding_window_layout only says whether there is one.
"""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import EXPERTS, EXPERTS_USED, count_pairs
from quantrecipe.model.architectures.layout import EXPERTS as ROUTED
from quantrecipe.model.architectures.layout import HEAD, Layout, attention, biases
from quantrecipe.model.architectures.rules import Stack
from quantrecipe.model.pairs import Pairs, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_EXPERTS = ("moe_num_primary_experts", *EXPERTS)
_USED = ("moe_num_active_primary_experts", *EXPERTS_USED)
_LENGTH = "moe_ffn_hidden_size"
_SOFTMAX, _SIGMOID = 1, 2  # llama.cpp: enum llama_expert_gating_func_type


def _slides(config: Config) -> bool:
    layout = config.find("sliding_window_layout")
    return isinstance(layout, list) and any(layout) and bool(config.count("sliding_window_size"))


def _pairs(config: Config) -> Pairs:
    arch, length = "smallthinker", u32(config.need(_LENGTH))
    gating = _SOFTMAX if config.flag("moe_primary_router_apply_softmax") else _SIGMOID
    experts, used = config.need(*_EXPERTS), config.need(*_USED)
    if used > experts:  # llama.cpp stops then
        config.fail(f"says that each token is sent to {used} of {experts} experts (expected: at most all)")
    table = {
        "expert_count": ("moe_num_primary_experts",),
        "expert_used_count": ("moe_num_active_primary_experts",),
    }
    window = {"attention.sliding_window": ("sliding_window_size",)} if _slides(config) else {}
    return (
        count_pairs(arch, config, table)
        | {f"{arch}.expert_feed_forward_length": length, f"{arch}.feed_forward_length": length}
        | {f"{arch}.expert_gating_func": u32(gating)}
        | count_pairs(arch, config, window)
    )


SMALLTHINKER = Architecture(
    name="smallthinker",
    classes=("SmallThinkerForCausalLM",),
    layout=Layout(required=attention() | ROUTED, optional=HEAD | biases()),
    lengths={
        "num_experts": lambda config, layer: config.need(*_EXPERTS),
        "moe_intermediate_size": lambda config, layer: config.need(_LENGTH),
    },
    default_theta=None,
    pairs=_pairs,
    rules=(
        Stack(
            names="model.layers.{layer}.block_sparse_moe.experts.{expert}.{matrix:down|gate|up}.weight",
            count=lambda config: config.need(*_EXPERTS),
            by=_EXPERTS,
        ),
    ),
    vocabulary=Vocabulary(kinds=("bpe",)),
)

ALL = (SMALLTHINKER,)
