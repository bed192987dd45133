"""Models with Llama's frame: what one or two of its parts are replaced by.

arcee     AFM: a feed-forward network without a gate
smollm3   every fourth layer without rotary positions, which llama.cpp knows by itself
seed_oss  the norm before the feed-forward network has another name
llama     InternLM 3; and what its authors call by names of their own
"""

from __future__ import annotations

from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.hyperparameters import rope_dimensions
from quantrecipe.model.architectures.layout import DENSE, HEAD, Layout, attention, biases, layers
from quantrecipe.model.architectures.llama import LLAMA, ROTARY, rotary_factors
from quantrecipe.model.architectures.pooling import pooling_pairs

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

ALL = (ARCEE, SMOLLM3, SEED_OSS, INTERNLM3)
