"""ModernBERT, NeoBERT and EuroBERT: encoders with a rotary embedding, and norms in front as language models have them.

modern-bert  q, k and v in one matrix, gate and up in another; two of three layers see a window only
neo-bert     the same with RMSNorm, and without a window
eurobert     Llama's layers, each token seeing all others
"""

from __future__ import annotations

from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.bert import BERT, NO_GGUF, bert_name, encoder_pairs
from quantrecipe.model.architectures.classifier import CLASSIFIER
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.hyperparameters import LAYERS, common_pairs, sliding_layers
from quantrecipe.model.architectures.layout import (
    DENSE,
    FEED_FORWARD_NORM,
    Layout,
    Part,
    Shapes,
    attention,
    biases,
    layers,
)
from quantrecipe.model.architectures.pooling import pooling_pairs
from quantrecipe.model.pairs import Pairs, boolean, f32, text, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_CLS = 2  # llama.cpp: LLAMA_POOLING_TYPE_CLS
_ACTIVATIONS = ("gelu", "silu", "swish")
"""Of the gate. llama.cpp takes GELU for all that it doesn't know."""
_PERIOD = 3  # llama.cpp: load_swa_pattern in modern-bert.cpp, where the GGUF says nothing
_THETA, _EPSILON = 10_000.0, 1e-6  # NeoBERT's code

_LAYERS: Shapes = layers(
    {
        "attn_qkv.weight": ("3 · hidden_size", "hidden_size"),
        "attn_output.weight": ("hidden_size", "hidden_size"),
        "ffn_up.weight": ("2 · intermediate_size", "hidden_size"),
        "ffn_down.weight": ("hidden_size", "intermediate_size"),
    }
) | FEED_FORWARD_NORM  # fmt: skip
_ATTENTION_NORM: Shapes = layers({"attn_norm.weight": ("hidden_size",)})


def _modern_bert_name(stored: str) -> str | None:
    """The name that the map knows. The output of masked language modelling is the embedding, and its bias no use."""
    name = bert_name(stored.removeprefix("model."))
    return None if name in ("decoder.bias", "decoder.weight") else name


def _modern_bert_pairs(config: Config) -> Pairs:
    arch = "modern-bert"
    pairs = encoder_pairs(arch, config)
    pairs[f"{arch}.attention.sliding_window"] = u32(config.need("local_attention"))
    period = _PERIOD
    if config.find("global_attn_every_n_layers") is not None:
        period = config.need("global_attn_every_n_layers")
        pairs[f"{arch}.attention.sliding_window_pattern"] = u32(period)
    _check_period(config, period)
    pairs[f"{arch}.rope.scaling.type"] = text("none")
    pairs[f"{arch}.vocab_size"] = u32(config.need("vocab_size"))
    if isinstance(activation := config.find("hidden_activation"), str):
        pairs[f"{arch}.hidden_activation"] = text(activation)
    return pairs


def _check_period(config: Config, period: int) -> None:
    """llama.cpp knows a period of layers only, not each one."""
    if config.find("layer_types") is None:
        return
    windows = [layer % period != 0 for layer in range(config.need(*LAYERS))]
    if sliding_layers(config) != windows:
        what = f"has layer_types that aren't full_attention in one of {period} layers, and a window in the others"
        config.fail(what, NO_GGUF)


def _refuse_modern_bert(config: Config) -> str | None:
    activation = config.find("hidden_activation")
    if activation is None or str(activation).startswith(_ACTIVATIONS):
        return None
    return (
        f"says hidden_activation: {shown(activation)} (what llama.cpp has for this architecture: gelu, silu)"
    )


def _flags_first(config: Config, pairs: Pairs) -> Pairs:
    """The tokenizer's keys, behind flags that count where the tokenizer's files don't say them."""
    flags = {f"tokenizer.ggml.add_{kind}_token": boolean(True) for kind in ("bos", "eos", "sep")}
    return flags | pairs


MODERN_BERT = replace(
    BERT,
    name="modern-bert",
    classes=("ModernBertForMaskedLM", "ModernBertForSequenceClassification", "ModernBertModel"),
    layout=Layout(
        required={
            "token_embd.weight": ("vocab_size", "hidden_size"),
            "token_embd_norm.weight": ("hidden_size",),
            "output_norm.weight": ("hidden_size",),
            **_LAYERS,
        },
        optional={
            **{name: shape for name, shape in CLASSIFIER.items() if name != "cls.bias"},
            "cls.norm.weight": ("hidden_size",),
        },
        # the embedding's norm is there already when the first layer begins
        parts=(
            Part(where=lambda config: range(1, config.need(*LAYERS)), required=_ATTENTION_NORM),
            Part(where=lambda config: (0,), optional=_ATTENTION_NORM),
        ),
    ),
    refuse=_refuse_modern_bert,
    defaults={"classifier_pooling": "cls"},
    pairs=_modern_bert_pairs,
    rename=_modern_bert_name,
    vocabulary=Vocabulary(kinds=("bpe",), pre=("modern-bert",)),
    tokenizer=_flags_first,
)


def _neo_bert_pairs(config: Config) -> Pairs:
    arch = "neo-bert"
    epsilon = config.number("norm_eps")
    return encoder_pairs(arch, config) | {
        f"{arch}.feed_forward_length": u32(_neo_bert_length(config)),
        f"{arch}.rope.freq_base": f32(_THETA),
        f"{arch}.rope.scaling.type": text("none"),
        f"{arch}.attention.layer_norm_rms_epsilon": f32(_EPSILON if epsilon is None else epsilon),
        f"{arch}.pooling_type": u32(_CLS),
    }


def _neo_bert_length(config: Config) -> int:
    """A gate makes a feed-forward network half as large again; so NeoBERT's is two thirds of what it says."""
    return int(2 * config.need("intermediate_size") / 3)


def _refuse_neo_bert(config: Config) -> str | None:
    activation = config.values.get("hidden_act", "swiglu")
    if str(activation).lower() != "swiglu":
        what = f"says hidden_act: {shown(activation)}, but llama.cpp computes SwiGLU for this architecture"
        config.fail(what, NO_GGUF)
    return None


def _neo_bert_name(stored: str) -> str | None:
    return None if stored.startswith("decoder.") else bert_name(stored.removeprefix("model."))


NEO_BERT = replace(
    BERT,
    name="neo-bert",
    classes=("NeoBERT", "NeoBERTForSequenceClassification", "NeoBERTLMHead"),
    layout=Layout(
        required={
            "token_embd.weight": ("vocab_size", "hidden_size"),
            "enc.output_norm.weight": ("hidden_size",),
            **_ATTENTION_NORM,
            **_LAYERS,
            **layers(
                {
                    "ffn_up.weight": ("2 · feed_forward", "hidden_size"),
                    "ffn_down.weight": ("hidden_size", "feed_forward"),
                }
            ),
        },
        optional=CLASSIFIER,
    ),
    refuse=_refuse_neo_bert,
    common=lambda arch, config: common_pairs(arch, config, epsilon=False),
    pairs=_neo_bert_pairs,
    rename=_neo_bert_name,
    lengths={**BERT.lengths, "feed_forward": lambda config, layer: _neo_bert_length(config)},
)


def _eurobert_pairs(config: Config) -> Pairs:
    return {
        "eurobert.attention.causal": boolean(False),
        "eurobert.rope.scaling.type": text("none"),
        **pooling_pairs("eurobert", config),
    }


def _no_beginning(config: Config, pairs: Pairs) -> Pairs:
    return {"tokenizer.ggml.add_bos_token": boolean(False)} | pairs


EUROBERT = Architecture(
    name="eurobert",
    classes=("EuroBertModel", "JinaEmbeddingsV5Model"),
    layout=Layout(required=attention("hidden_size") | DENSE, optional=biases("hidden_size")),
    default_theta=None,
    pairs=_eurobert_pairs,
    vocabulary=Vocabulary(kinds=("bpe",), pre=("jina-v5-nano",)),
    tokenizer=_no_beginning,
)

ALL = (MODERN_BERT, NEO_BERT, EUROBERT)
