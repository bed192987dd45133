"""Gemma 1 to 3, and EmbeddingGemma: norms that are stored without their 1, and an embedding that is the output, too.

gemma            Gemma 1, CodeGemma
gemma2           norms behind attention and feed-forward, soft caps, a sliding window in every second layer
gemma3           norms on q and k, no soft caps on attention; of pictures, too: these are left out
gemma-embedding  EmbeddingGemma: gemma3 without a causal mask; its dense layers are left out, as the converter does
"""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import (
    FEED_FORWARD,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    count_pairs,
    number_pairs,
)
from quantrecipe.model.architectures.layout import (
    DENSE,
    HEAD,
    POST_NORMS,
    QK_NORMS,
    Layout,
    attention,
    biases,
)
from quantrecipe.model.architectures.rules import Found, change, drop, plus_one
from quantrecipe.model.architectures.shared.pooling import pooling_pairs
from quantrecipe.model.pairs import Pairs, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.source import TensorSource
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL", "GEMMA_VOCABULARY", "gemma3_pairs"]

_SIZES = {
    "context_length": ("max_position_embeddings",),
    "embedding_length": HIDDEN,
    "block_count": LAYERS,
    "feed_forward_length": FEED_FORWARD,
    "attention.head_count": HEADS,
    "attention.head_count_kv": (*KV_HEADS, *HEADS),
}
_HEAD_LENGTHS = {"attention.key_length": ("head_dim",), "attention.value_length": ("head_dim",)}
_WINDOW = {"attention.sliding_window": ("sliding_window",)}
_SOFT_CAPS = {
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
}

_EOT = 107  # "<end_of_turn>" in the vocabulary that all of Gemma 1 has

GEMMA_VOCABULARY = Vocabulary(space_prefix=False)
_SENTENCEPIECE = Vocabulary(kinds=("sentencepiece",), space_prefix=False)

_NORMS = (change("norm.weight", plus_one), change("{norm:*}norm.weight", plus_one))
"""Norms on q and k among them. EmbeddingGemma's last one has nothing before its name."""


def _few_pairs(arch: str, config: Config) -> Pairs:
    """The common keys of Gemma 1 and 2: fewer than other architectures have, and in another order."""
    pairs = count_pairs(arch, config, _SIZES)
    pairs |= number_pairs(arch, config, {"attention.layer_norm_rms_epsilon": ("rms_norm_eps",)})
    return pairs | count_pairs(arch, config, _HEAD_LENGTHS)


def _refuse_output(config: Config) -> str | None:
    """llama.cpp has no output of its own for Gemma 1 and 2."""
    if config.find("tie_word_embeddings") is False:
        return "has an output of its own (tie_word_embeddings: false), which llama.cpp's gemma doesn't have"
    return None


def _end_of_turn(config: Config, pairs: Pairs) -> Pairs:
    last = "tokenizer.ggml.add_space_prefix"
    prefix = pairs.pop(last, None)
    pairs["tokenizer.ggml.eot_token_id"] = u32(_EOT)
    return pairs if prefix is None else {**pairs, last: prefix}


def _fitting(it: Found) -> TensorSource:
    """The embedding without the rows that it was filled up with beyond the vocabulary."""
    count = it.config.need("vocab_size")
    return layout.rows(it.source, 0, count) if it.source.rows > count else it.source


def gemma3_pairs(arch: str, config: Config) -> Pairs:
    """Make the keys of a sliding window, and of a soft cap on the output where there is one."""
    pairs: Pairs = {}
    if config.number("final_logit_softcapping"):
        pairs |= number_pairs(arch, config, {"final_logit_softcapping": ("final_logit_softcapping",)})
    if config.find("sliding_window_pattern") != 1:
        pairs |= count_pairs(arch, config, _WINDOW)
    return pairs


def _embedding_pairs(config: Config) -> Pairs:
    """The window as config.json has it: transformers halves it for a model that looks both ways."""
    pairs = gemma3_pairs("gemma-embedding", config)
    window = config.whole.get("sliding_window")
    if isinstance(window, bool) or not isinstance(window, int) or not 0 < window < 2**32:
        config.fail("has no sliding_window (expected: a whole number above 0)")
    pairs["gemma-embedding.attention.sliding_window"] = u32(window)
    return pairs | pooling_pairs("gemma-embedding", config)


def _refuse_soft_cap(config: Config) -> str | None:
    if config.find("attn_logit_softcapping") is not None:
        return "has attn_logit_softcapping, which llama.cpp's gemma3 doesn't have"
    return None


GEMMA = Architecture(
    name="gemma",
    classes=("GemmaForCausalLM",),
    layout=Layout(required=attention() | DENSE, optional=biases()),
    common=_few_pairs,
    rules=(drop("lm_head.weight"), *_NORMS),
    vocabulary=_SENTENCEPIECE,
    tokenizer=_end_of_turn,
    refuse=_refuse_output,
)

GEMMA2 = Architecture(
    name="gemma2",
    classes=("Gemma2ForCausalLM",),
    layout=Layout(required=attention() | DENSE | POST_NORMS, optional=biases()),
    common=_few_pairs,
    pairs=lambda config: number_pairs("gemma2", config, _SOFT_CAPS) | count_pairs("gemma2", config, _WINDOW),
    rules=(drop("lm_head.weight"), *_NORMS),
    vocabulary=_SENTENCEPIECE,
    refuse=_refuse_output,
)

_GEMMA3_LAYOUT = Layout(
    required=attention() | QK_NORMS | DENSE | POST_NORMS,
    optional=HEAD | biases(),
)
_GEMMA3_RULES = (change("{any:model.|}embed_tokens.weight", _fitting), *_NORMS)

GEMMA3 = Architecture(
    name="gemma3",
    classes=("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
    layout=_GEMMA3_LAYOUT,
    pairs=lambda config: gemma3_pairs("gemma3", config),
    rules=_GEMMA3_RULES,
    vocabulary=GEMMA_VOCABULARY,
    refuse=_refuse_soft_cap,
)

EMBEDDING = Architecture(
    name="gemma-embedding",
    classes=("Gemma3TextModel",),
    layout=_GEMMA3_LAYOUT,
    pairs=_embedding_pairs,
    rules=_GEMMA3_RULES,
    vocabulary=GEMMA_VOCABULARY,
    refuse=_refuse_soft_cap,
)

ALL = (GEMMA, GEMMA2, GEMMA3, EMBEDDING)
