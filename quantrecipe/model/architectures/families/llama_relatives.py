"""Models with Llama's frame: what one or two of its parts are replaced by.

    arcee        AFM: a feed-forward network without a gate
    smollm3      every fourth layer without rotary positions, which llama.cpp knows by itself
    seed_oss     the norm before the feed-forward network has another name
    llama        what has a class of its own: InternLM 3, IQuest-Coder, the language models of Llava and Voxtral, …
    llama-embed  Llama as an embedding model, which sees what comes after, too

All but Seed-OSS have q and k in the order that Llama's have.
"""

from __future__ import annotations

from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.families.llama import LLAMA, ROTARY, rotary_factors
from quantrecipe.model.architectures.hyperparameters import rope_dimensions
from quantrecipe.model.architectures.layout import (
    DENSE,
    HEAD,
    Layout,
    attention,
    biases,
    layers,
    without_head,
)
from quantrecipe.model.architectures.rules import language_name
from quantrecipe.model.architectures.shared.pooling import pooling_pairs

__all__ = ["ALL"]

ARCEE = Architecture(
    name="arcee",
    classes=("ArceeForCausalLM",),
    layout=Layout(
        required=attention()
        | layers(
            {
                "ffn_up.weight": ("intermediate_size", "hidden_size"),
                "ffn_down.weight": ("hidden_size", "intermediate_size"),
            }
        ),
        optional={**HEAD, **biases(), "rope_freqs.weight": ("head_dim / 2",)},
    ),
    rules=ROTARY,
    pairs=lambda config: rope_dimensions("arcee", config) | pooling_pairs("arcee", config),
    computed=rotary_factors,
    vocabulary=LLAMA.vocabulary,
    tokenizer=LLAMA.tokenizer,
)

SMOLLM3 = Architecture(
    name="smollm3",
    classes=("SmolLM3ForCausalLM",),
    layout=Layout(required=attention() | DENSE, optional=HEAD | biases()),
    rules=ROTARY,
    pairs=lambda config: rope_dimensions("smollm3", config),
    vocabulary=LLAMA.vocabulary,
    tokenizer=LLAMA.tokenizer,
)

SEED_OSS = Architecture(
    name="seed_oss",
    classes=("SeedOssForCausalLM",),
    layout=Layout(
        required=attention(norms=("attn_norm", "post_attention_norm")) | DENSE, optional=HEAD | biases()
    ),
)

INTERNLM3 = replace(LLAMA, classes=("InternLM3ForCausalLM",), defaults={}, default_theta=None, derive={})


def _language_model(stored: str) -> str | None:
    return language_name(stored.replace("text_model.", ""))


def _with_model(stored: str) -> str | None:
    """Names of a model without a head, which lack "model." in front."""
    name = language_name(stored)
    return name if name is None or name.startswith("model.") else f"model.{name}"


OTHERS = replace(
    LLAMA,
    classes=(
        "IQuestCoderForCausalLM",
        "LlavaForConditionalGeneration",
        "VLlama3ForCausalLM",
        "VoxtralForConditionalGeneration",
    ),
    defaults={},
    derive={"num_attention_heads": lambda values: 32},  # which SmolVLM 2 leaves out
    rename=_language_model,
)

HEADLESS = replace(LLAMA, classes=("LlamaModel",), layout=without_head(LLAMA.layout), rename=_with_model)

EMBED = replace(
    HEADLESS,
    name="llama-embed",
    classes=("LlamaBidirectionalModel",),
    pairs=lambda config: rope_dimensions("llama-embed", config),
)

ALL = (ARCEE, SMOLLM3, SEED_OSS, INTERNLM3, OTHERS, HEADLESS, EMBED)
