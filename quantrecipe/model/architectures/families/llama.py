"""What llama.cpp calls a llama: Llama 1 to 3 and everything that goes by its class name, Mistral, and Mixtral.

The sliding window of the first Mistral has no key: llama.cpp's converter writes none for this architecture. Mixtral is
a Mistral with experts. What else is a llama stands in llama_relatives.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture, no_reason
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import EXPERTS, head_dim, rope_dimensions
from quantrecipe.model.architectures.layout import (
    DENSE,
    DENSE_BIASES,
    HEAD,
    WIDE_EXPERTS,
    Layout,
    Shapes,
    attention,
    biases,
    layers,
)
from quantrecipe.model.architectures.rope import llama3_factors
from quantrecipe.model.architectures.rules import Stack, change, in_rope_order
from quantrecipe.model.pairs import Pairs, boolean, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL", "LLAMA", "ROTARY", "rotary_factors"]

_OPTIONAL: Shapes = {
    **HEAD,
    **biases(),
    **layers({"attn_output.bias": ("hidden_size",)}),
    "rope_freqs.weight": ("head_dim / 2",),
}

_DENSE = Layout(
    required=attention() | DENSE,
    optional=_OPTIONAL | DENSE_BIASES,
)

# llama.cpp's converter knows these families by nothing else
_CODE_LLAMA_VOCAB, _CODE_LLAMA_EOT = 32016, 32010
_GRANITE_VOCAB = 49152  # IBM's small Granite models, whose texts begin without BOS


VOCABULARY = Vocabulary(
    kinds=("sentencepiece", "llama-hf", "bpe", "mistral"), space_prefix="tokenizer_config first"
)
"""Llama's vocabulary, which many others have, too."""

ROTARY = (change("model.layers.{layer}.self_attn.{proj:q|k}_proj.{end:weight|bias}", in_rope_order),)


def rotary_factors(config: Config) -> Mapping[str, bytes]:
    """Llama 3's frequency factors: they stand in config.json as a rule, and in the GGUF as a tensor."""
    factors = llama3_factors(config, head_dim(config))
    return {} if factors is None else {"rope_freqs.weight": factors}


def _tokenizer(config: Config, pairs: Pairs) -> Pairs:
    """Two families that are known by the size of their vocabulary."""
    if config.find("vocab_size") == _CODE_LLAMA_VOCAB:
        pairs.setdefault("tokenizer.ggml.eot_token_id", u32(_CODE_LLAMA_EOT))
    if config.find("vocab_size") == _GRANITE_VOCAB:
        pairs["tokenizer.ggml.add_bos_token"] = boolean(False)
    return pairs


def _refuse(config: Config) -> str | None:
    """Draft models of EAGLE-3 go by Llama's class name; some with experts do, too."""
    if config.count(*EXPERTS):
        return f"is a model with experts ({config.called(*EXPERTS)}), but its class has none"
    if config.find("draft_vocab_size") is not None and config.find("num_hidden_layers") == 1:
        return "is an EAGLE-3 draft model, which needs its target model to be converted"
    return None


LLAMA = Architecture(
    name="llama",
    classes=("LlamaForCausalLM", "LLaMAForCausalLM"),
    layout=_DENSE,
    rules=ROTARY,
    pairs=lambda config: rope_dimensions("llama", config),
    vocabulary=VOCABULARY,
    tokenizer=_tokenizer,
    computed=rotary_factors,
    refuse=_refuse,
)

MISTRAL = replace(LLAMA, classes=("MistralForCausalLM",))

MIXTRAL = replace(
    LLAMA,
    classes=("MixtralForCausalLM",),
    layout=Layout(
        required=attention() | WIDE_EXPERTS,
        optional=_OPTIONAL,
    ),
    rules=(
        *ROTARY,
        Stack(
            names="model.layers.{layer}.block_sparse_moe.experts.{expert}.{matrix:w1|w2|w3}.weight",
            to="layers.{layer}.feed_forward.experts.{matrix}.weight",
        ),
    ),
    refuse=no_reason,
)


ALL = (LLAMA, MISTRAL, MIXTRAL)
