"""InclusionAI's GroveMoE: Qwen 3's layers with experts, and each two of these share a small one besides.

mlp.experts.0 … n-1          (moe_intermediate_size, hidden)    ffn_up_exps (n, …)
mlp.chunk_experts.0 … n/2-1  (head_dim, hidden)                 ffn_up_chexps (n / 2, …)
mlp.gate.expert_bias         left out: the model doesn't use it
"""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.qwen import EXPERTS_RULES
from quantrecipe.model.architectures.hyperparameters import EXPERTS
from quantrecipe.model.architectures.layout import EXPERTS as ROUTED
from quantrecipe.model.architectures.layout import HEAD, QK_NORMS, Layout, attention, biases, layers
from quantrecipe.model.architectures.rules import Stack
from quantrecipe.model.pairs import Pairs, f32, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

# conversion/grovemoe.py: they aren't in config.json
_PER_GROUP = 2
_SCALE = 0.05
_CHUNK_LENGTH = 128  # where there is no head_dim, either


def _chunk_length(config: Config, layer: int = 0) -> int:
    return config.count("head_dim") or _CHUNK_LENGTH


def _chunks(config: Config, layer: int = 0) -> int:
    return config.need(*EXPERTS) // _PER_GROUP


def _pairs(config: Config) -> Pairs:
    return {
        "grovemoe.expert_feed_forward_length": u32(config.need("moe_intermediate_size")),
        "grovemoe.expert_chunk_feed_forward_length": u32(_chunk_length(config)),
        "grovemoe.experts_per_group": u32(_PER_GROUP),
        "grovemoe.expert_group_scale": f32(_SCALE),
    }


GROVE_MOE = Architecture(
    name="grovemoe",
    classes=("GroveMoeForCausalLM", "modeling_grove_moe.GroveMoeForCausalLM"),
    layout=Layout(
        required=attention()
        | QK_NORMS
        | ROUTED
        | layers(
            {
                "ffn_gate_chexps.weight": ("chunks", "chunk_length", "hidden_size"),
                "ffn_up_chexps.weight": ("chunks", "chunk_length", "hidden_size"),
                "ffn_down_chexps.weight": ("chunks", "hidden_size", "chunk_length"),
            }
        ),
        optional=HEAD | biases(),
    ),
    lengths={"chunks": _chunks, "chunk_length": _chunk_length},
    default_theta=None,
    pairs=_pairs,
    leaves_out=lambda config, name: name.endswith(".expert_bias"),
    rules=(
        Stack(
            names="model.layers.{layer}.mlp.chunk_experts.{expert}.{matrix:down_proj|gate_proj|up_proj}.weight",
            count=_chunks,
        ),
        *EXPERTS_RULES,
    ),
    vocabulary=Vocabulary(kinds=("bpe",)),
)

ALL = (GROVE_MOE,)
