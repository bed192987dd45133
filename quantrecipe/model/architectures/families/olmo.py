"""Ai2's OLMo: the first one has norms without weights; the second norms behind attention and feed-forward network.

    olmo   norms without weights, and q, k and v that are clamped
    olmo2  OLMo 2, and OLMo 3, whose layers see a sliding window but for every fourth
    olmoe  experts, with norms on all of q and k

OLMo's rows of q and k are permuted as Llama's are; those of the others aren't.
"""

from __future__ import annotations

from functools import partial

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.llama import ROTARY
from quantrecipe.model.architectures.families.qwen import EXPERTS_RULES
from quantrecipe.model.architectures.hyperparameters import (
    common_pairs,
    count_pairs,
    number_pairs,
    sliding_pattern,
)
from quantrecipe.model.architectures.layout import (
    DENSE,
    HEAD,
    KV,
    POST_NORMS,
    Layout,
    attention,
    biases,
    layers,
)
from quantrecipe.model.pairs import Pairs, f32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_EPSILON = 1e-5
"""Of the norms, which config.json doesn't say. Source: OlmoLayerNorm and OlmoeRMSNorm in transformers."""

_VOCABULARY = Vocabulary(kinds=("bpe",), pre=("olmo",))

_NORMLESS = attention("hidden_size", norms=())
del _NORMLESS["output_norm.weight"]


def _olmo_pairs(config: Config) -> Pairs:
    clamp = number_pairs("olmo", config, {"attention.clamp_kqv": ("clip_qkv",)})
    return {"olmo.attention.layer_norm_epsilon": f32(_EPSILON)} | clamp


OLMO = Architecture(
    name="olmo",
    classes=("OlmoForCausalLM", "OLMoForCausalLM"),
    layout=Layout(required=_NORMLESS | DENSE, optional=HEAD | biases("hidden_size")),
    common=partial(common_pairs, epsilon=False),
    rules=ROTARY,
    pairs=_olmo_pairs,
    vocabulary=_VOCABULARY,
)


def _window_pairs(config: Config) -> Pairs:
    if config.find("sliding_window") is None:  # OLMo 2
        return {}
    window = count_pairs("olmo2", config, {"attention.sliding_window": ("sliding_window",)})
    return window | sliding_pattern("olmo2", config)


OLMO2 = Architecture(
    name="olmo2",
    classes=("Olmo2ForCausalLM", "Olmo3ForCausalLM"),
    layout=Layout(
        required=attention("hidden_size", norms=())
        | HEAD
        | DENSE
        | POST_NORMS
        | layers({"attn_q_norm.weight": ("hidden_size",), "attn_k_norm.weight": (KV,)}),
        optional=biases("hidden_size"),
    ),
    pairs=_window_pairs,
    vocabulary=Vocabulary(kinds=("bpe",), pre=("dbrx",)),
)

OLMOE = Architecture(
    name="olmoe",
    classes=("OlmoeForCausalLM",),
    layout=Layout(
        required=attention("hidden_size")
        | HEAD
        | layers(
            {
                "attn_q_norm.weight": ("hidden_size",),
                "attn_k_norm.weight": ("hidden_size",),
                "ffn_gate_inp.weight": ("num_experts", "hidden_size"),
                "ffn_gate_exps.weight": ("num_experts", "intermediate_size", "hidden_size"),
                "ffn_down_exps.weight": ("num_experts", "hidden_size", "intermediate_size"),
                "ffn_up_exps.weight": ("num_experts", "intermediate_size", "hidden_size"),
            }
        ),
        optional=biases("hidden_size"),
    ),
    rules=EXPERTS_RULES,
    pairs=lambda config: {"olmoe.attention.layer_norm_rms_epsilon": f32(_EPSILON)},
    vocabulary=_VOCABULARY,
)

ALL = (OLMO, OLMO2, OLMOE)
