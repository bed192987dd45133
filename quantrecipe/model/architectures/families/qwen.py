"""Qwen 2 and 3, dense and with experts: rows in the order that llama.cpp's NEOX rotation wants.

    qwen2     Qwen2 and Qwen2.5: biases on q, k and v
    qwen2moe  Qwen1.5-MoE and Qwen2-MoE: routed experts, and one that every token is sent to
    qwen3     norms on q and k, and heads of a length of their own
    qwen3moe  Qwen3's attention with routed experts
    rnd1      the same as a diffusion model, which sees what comes after, too
    qwen      the first Qwen: q, k and v in one matrix

The dense ones are embedding models, too: sentence-transformers' modules.json says how their token vectors become one.
"""

from __future__ import annotations

from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import FEED_FORWARD, number_pairs
from quantrecipe.model.architectures.layout import (
    DENSE,
    EXPERTS,
    HEAD,
    QK_NORMS,
    Layout,
    Shapes,
    attention,
    biases,
    layers,
    without_head,
)
from quantrecipe.model.architectures.rules import (
    Each,
    Found,
    Named,
    Rule,
    Stack,
    halves,
    language_name,
    rename,
)
from quantrecipe.model.architectures.shared.pooling import pooling_pairs
from quantrecipe.model.architectures.shared.qwen_reranker import reranker_of
from quantrecipe.model.pairs import Pairs, boolean, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = [
    "ALL",
    "EXPERTS_RULES",
    "QWEN2",
    "QWEN2MOE",
    "QWEN3",
    "QWEN3MOE",
    "SHARED_EXPERT",
    "expert_lengths",
]

_EXPERTS = "model.layers.{layer}.mlp.experts"


def _unstack(it: Found) -> list[Named]:
    """Gate and up of all experts, which newer checkpoints hold in one tensor: gate's rows first in each expert."""
    stem = it.name.removesuffix(".weight").removesuffix("gate_up_proj")
    gate, up = halves(it.source)
    return [(f"{stem}gate_proj.weight", gate), (f"{stem}up_proj.weight", up)]


EXPERTS_RULES: tuple[Rule, ...] = (
    Stack(names=_EXPERTS + ".{expert}.{matrix:down_proj|gate_proj|up_proj}.weight"),
    Each(names=_EXPERTS + ".gate_up_proj", make=_unstack),
    Each(names=_EXPERTS + ".gate_up_proj.weight", make=_unstack),
    rename(_EXPERTS + ".down_proj", _EXPERTS + ".down_proj.weight"),
)
"""Experts that are stored one by one, or stacked already."""

_SHARED_LENGTH = "shared_expert_intermediate_size"
SHARED_EXPERT: Shapes = layers(
    {
        "ffn_gate_inp_shexp.weight": ("hidden_size",),
        "ffn_gate_shexp.weight": (_SHARED_LENGTH, "hidden_size"),
        "ffn_up_shexp.weight": (_SHARED_LENGTH, "hidden_size"),
        "ffn_down_shexp.weight": ("hidden_size", _SHARED_LENGTH),
    }
)


def expert_lengths(arch: str, config: Config) -> Pairs:
    """Feed-forward lengths of a routed and of the shared expert, where config.json has them."""
    lengths = {
        f"{arch}.expert_feed_forward_length": config.count("moe_intermediate_size"),
        f"{arch}.expert_shared_feed_forward_length": config.count(_SHARED_LENGTH),
    }
    return {key: u32(length) for key, length in lengths.items() if length is not None}


QWEN2 = Architecture(
    name="qwen2",
    classes=(
        "AudioFlamingo3ForConditionalGeneration",
        "DotsOCRForCausalLM",
        "KORMoForCausalLM",
        "Qwen2AudioForConditionalGeneration",
        "Qwen2ForCausalLM",
    ),
    layout=Layout(
        required=attention("hidden_size") | DENSE,
        optional={**HEAD, "output.bias": ("vocab_size",), **biases("hidden_size")},
    ),
    pairs=lambda config: pooling_pairs("qwen2", config),
)

QWEN2MODEL = replace(
    QWEN2,
    classes=("Qwen2Model",),
    layout=without_head(QWEN2.layout),
    rename=lambda stored: language_name("model." + stored),
)

QWEN2MOE = Architecture(
    name="qwen2moe",
    classes=("Qwen2MoeForCausalLM",),
    layout=Layout(
        required=attention("hidden_size") | HEAD | EXPERTS | SHARED_EXPERT,
        optional=biases("hidden_size"),
    ),
    rules=EXPERTS_RULES,
    pairs=lambda config: expert_lengths("qwen2moe", config),
)

QWEN3 = Architecture(
    name="qwen3",
    classes=("Qwen3ForCausalLM",),
    layout=Layout(required=attention() | QK_NORMS | DENSE, optional=HEAD | biases()),
    pairs=lambda config: pooling_pairs("qwen3", config),
)

QWEN3MODEL = replace(QWEN3, classes=("Qwen3Model",), layout=without_head(QWEN3.layout))

QWEN3MOE = Architecture(
    name="qwen3moe",
    classes=("Qwen3MoeForCausalLM",),
    layout=Layout(required=attention() | QK_NORMS | EXPERTS, optional=HEAD | biases()),
    rules=EXPERTS_RULES,
    pairs=lambda config: expert_lengths("qwen3moe", config),
)


def _rnd1_pairs(config: Config) -> Pairs:
    pairs = expert_lengths("rnd1", config) | {"rnd1.attention.causal": boolean(False)}
    if (mask := config.count("mask_token_id")) is not None:
        pairs["tokenizer.ggml.mask_token_id"] = u32(mask)
    return pairs


RND1 = replace(QWEN3MOE, name="rnd1", classes=("RND1",), pairs=_rnd1_pairs)


_QWEN_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|extra_{number}|>" for number in range(205)),
)
"""The tokens behind those of qwen.tiktoken. Source: tokenization_qwen.py of Qwen-7B"""


def _qwen_ends(config: Config, pairs: Pairs) -> Pairs:
    """Where the folder tells no special token, "<|endoftext|>" is all of them."""
    tokens = pairs["tokenizer.ggml.tokens"].decode()
    if any(key.endswith("_token_id") for key in pairs) or _QWEN_SPECIAL[0] not in tokens:
        return pairs
    number = u32(tokens.index(_QWEN_SPECIAL[0]))
    return pairs | {f"tokenizer.ggml.{kind}_token_id": number for kind in ("bos", "eos", "unknown")}


def _qwen_pairs(config: Config) -> Pairs:
    """The norms' epsilon, under the name that llama.cpp reads, and not only under the converter's."""
    return number_pairs("qwen", config, {"attention.layer_norm_rms_epsilon": ("layer_norm_epsilon",)})


QWEN = Architecture(
    name="qwen",
    classes=("QWenLMHeadModel",),
    layout=Layout(
        required={
            "token_embd.weight": ("vocab_size", "hidden_size"),
            "output_norm.weight": ("hidden_size",),
            **HEAD,
            **layers(
                {
                    "attn_norm.weight": ("hidden_size",),
                    "attn_qkv.weight": ("3 · hidden_size", "hidden_size"),
                    "attn_qkv.bias": ("3 · hidden_size",),
                    "attn_output.weight": ("hidden_size", "hidden_size"),
                    "ffn_norm.weight": ("hidden_size",),
                    "ffn_gate.weight": ("half", "hidden_size"),
                    "ffn_up.weight": ("half", "hidden_size"),
                    "ffn_down.weight": ("hidden_size", "half"),
                }
            ),
        }
    ),
    lengths={"half": lambda config, layer: config.need(*FEED_FORWARD) // 2},
    pairs=_qwen_pairs,
    vocabulary=Vocabulary(
        kinds=("tiktoken", "bpe"),
        pre=("qwen2",),
        after_ranks=_QWEN_SPECIAL,
    ),
    tokenizer=_qwen_ends,
)

ALL = (
    QWEN,
    QWEN2,
    QWEN2MODEL,
    QWEN2MOE,
    reranker_of(QWEN3),
    QWEN3,
    reranker_of(QWEN3MODEL),
    QWEN3MODEL,
    QWEN3MOE,
    RND1,
)
