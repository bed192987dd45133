"""Nomic Embed and Jina Embeddings v2: BERT's frame of norms behind, with other places and a gate.

    nomic-bert      rotary embedding, q, k and v in one matrix, no biases, a gate: Nomic Embed 1 and 1.5
    nomic-bert-moe  the same with biases and without a gate; one of `moe_every_n_layers` layers has experts: version 2
    jina-bert-v2    a bias by distance (ALiBi); up and gate in one matrix

Nomic's config.json has names of GPT-2's, and is read as it stands: the class that transformers has by now knows others.

    encoder.layers.1.mlp.experts.mlp.w1  (experts · rows, cols)  ▶  ffn_up_exps    (experts, rows, cols)
    encoder.layers.1.mlp.experts.mlp.w2  (experts · rows, cols)  ▶  ffn_down_exps  (experts, cols, rows)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from quantrecipe.model.architectures.bert import (
    BERT,
    EMBEDDING,
    POST_NORM,
    QKV,
    QKV_BIASES,
    TOKEN_TYPES,
    encoder_pairs,
    norms,
    token_types_first,
    token_types_in_unigram,
)
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.hyperparameters import (
    EXPERTS,
    FEED_FORWARD,
    HIDDEN,
    LAYERS,
    common_pairs,
)
from quantrecipe.model.architectures.layout import NO_GATE, NO_GATE_BIASES, Layout, Part, Shapes, layers
from quantrecipe.model.architectures.rules import Each, Found, Named, drop
from quantrecipe.model.pairs import Pairs, f32s, i32s, text, texts, u32
from quantrecipe.model.source.layout import Transpose, reshape
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_TRAINED = {(8192, 2048): 2048, (2048, 2048): 512}
"""n_positions and max_trained_positions → the places that the model was trained for. Source: Nomic's model cards."""
_MASK = 250_001
"""The number of <mask>, which XLM-RoBERTa's sentencepiece.bpe.model lacks."""
_PRE = "tokenizer.ggml.pre"
_PRE_OF_SPANISH, _PRE_OF_CODE = "jina-v2-es", "jina-v2-code"
_CONTROL = 3  # llama.cpp: enum llama_token_type

_FUSED: Shapes = layers(
    {
        "attn_qkv.weight": ("3 · hidden_size", "hidden_size"),
        "ffn_down.weight": ("hidden_size", "intermediate_size"),
    }
)


def _is_moe(config: Config) -> bool:
    return bool(config.find("moe_every_n_layers"))


def _trained_places(values: Mapping[str, Any]) -> Mapping[str, Any]:
    places = _TRAINED.get((values.get("n_positions", 0), values.get("max_trained_positions", 2048)))
    return values if places is None else {**values, "n_positions": places}


def _refuse_nomic(config: Config) -> str | None:
    """What llama.cpp's converter expects of config.json: all else is computed otherwise."""
    moe = _is_moe(config)
    expected: dict[str, Any] = {
        "activation_function": "gelu" if moe else "swiglu",
        "causal": False,
        "qkv_proj_bias": moe,
        "mlp_fc1_bias": moe,
        "mlp_fc2_bias": moe,
        "prenorm": False,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
    }
    for name, value in expected.items():
        if (found := config.values.get(name, value)) != value:
            return f"says {name}: {shown(found)} (what llama.cpp computes: {shown(value)})"
    if config.find("n_positions") not in _TRAINED.values():
        pairs = " or ".join(map(str, _TRAINED))
        return f"says n_positions: {shown(config.find('n_positions'))} (expected, with max_trained_positions: {pairs})"
    return None


def _tokenizer(config: Config, pairs: Pairs) -> Pairs:
    unigram = "tokenizer.ggml.scores" in pairs
    return token_types_in_unigram(config, pairs) if unigram else token_types_first(config, pairs)


def _with_mask(config: Config, pairs: Pairs) -> Pairs:
    """The tokenizer's keys, and among the tokens the one that SentencePiece's file lacks."""
    pairs = _tokenizer(config, pairs)
    scores = pairs.get("tokenizer.ggml.scores")
    if scores is None or not (config.folder / "sentencepiece.bpe.model").is_file():
        return pairs
    if len(numbers := list(scores.decode())) <= _MASK:
        return pairs
    tokens = list(pairs["tokenizer.ggml.tokens"].decode())
    types = list(pairs["tokenizer.ggml.token_type"].decode())
    tokens[_MASK], numbers[_MASK], types[_MASK] = "<mask>", 0.0, _CONTROL
    return pairs | {
        "tokenizer.ggml.tokens": texts(tokens),
        "tokenizer.ggml.scores": f32s(numbers),
        "tokenizer.ggml.token_type": i32s(types),
    }


NOMIC_BERT = replace(
    BERT,
    name="nomic-bert",
    classes=("NomicBertModel",),
    applies=lambda config: not _is_moe(config),
    layout=Layout(
        required=EMBEDDING
        | POST_NORM
        | _FUSED
        | layers({f"ffn_{name}.weight": ("intermediate_size", "hidden_size") for name in ("gate", "up")}),
        optional=TOKEN_TYPES,
    ),
    refuse=_refuse_nomic,
    as_stated=True,
    default_theta=10_000.0,
    adjust=_trained_places,
    pairs=lambda config: encoder_pairs("nomic-bert", config),
    rules=(),
    vocabulary=Vocabulary(kinds=("wordpiece", "unigram")),
    tokenizer=_tokenizer,
)


def _with_experts(config: Config) -> Iterable[int]:
    period = config.need("moe_every_n_layers")
    return [layer for layer in range(config.need(*LAYERS)) if layer % period == 1]


def _without_experts(config: Config) -> Iterable[int]:
    return sorted({*range(config.need(*LAYERS))} - {*_with_experts(config)})


def _experts(it: Found) -> Iterator[Named]:
    """The matrices of a layer's experts, which are stored one below the other."""
    sizes = [it.config.need(*names) for names in (EXPERTS, FEED_FORWARD, HIDDEN)]
    stack = reshape(it.source, tuple(sizes))
    yield f"{it.name}.weight", Transpose(source=stack) if it.texts["matrix"] == "w2" else stack


def _moe_pairs(config: Config) -> Pairs:
    arch = "nomic-bert-moe"
    return encoder_pairs(arch, config) | {
        f"{arch}.moe_every_n_layers": u32(config.need("moe_every_n_layers")),
        f"{arch}.expert_used_count": u32(config.need("moe_top_k")),
    }


_MLP = "encoder.layers.{layer}.mlp.experts"

NOMIC_BERT_MOE = replace(
    NOMIC_BERT,
    name="nomic-bert-moe",
    applies=_is_moe,
    layout=Layout(
        required=EMBEDDING | POST_NORM | layers({"attn_qkv.weight": ("3 · hidden_size", "hidden_size")}),
        optional=TOKEN_TYPES
        | layers({"attn_qkv.bias": ("3 · hidden_size",), "attn_output.bias": ("hidden_size",)}),
        parts=(
            Part(
                where=_with_experts,
                required=layers(
                    {
                        "ffn_gate_inp.weight": ("num_experts", "hidden_size"),
                        "ffn_up_exps.weight": ("num_experts", "intermediate_size", "hidden_size"),
                        "ffn_down_exps.weight": ("num_experts", "hidden_size", "intermediate_size"),
                    }
                ),
            ),
            Part(where=_without_experts, required=NO_GATE, optional=NO_GATE_BIASES),
        ),
    ),
    common=lambda arch, config: common_pairs(arch, config, used=False),
    pairs=_moe_pairs,
    rules=(drop(_MLP + ".bias"), Each(names=_MLP + ".mlp.{matrix:w1|w2}", make=_experts)),
    tokenizer=_with_mask,
)


def _up_rows(config: Config, layer: int) -> int:
    """Rows of "up", which the gate's follow where both are one matrix."""
    gated = any(".gated_layers." in name or ".up_gated_layer." in name for name in config.stored)
    return config.need(*FEED_FORWARD) * (2 if gated else 1)


def _refuse_jina(config: Config) -> str | None:
    if (kind := str(config.find("feed_forward_type"))) == "reglu":
        return f"says feed_forward_type: {shown(kind)}, but llama.cpp gates by GELU for this architecture"
    return None


def _jina_tokenizer(config: Config, pairs: Pairs) -> Pairs:
    """The tokenizer's keys; the converter takes it for granted that others than BERT's have two kinds of texts."""
    if pairs["tokenizer.ggml.model"].decode() == "bert":
        return token_types_first(config, pairs)
    pairs = pairs | {"tokenizer.ggml.token_type_count": u32(2)}
    # of the models whose vocabularies have these rules, only the one for code has norms of q and k
    for_code = any(".layer_norm_q." in name for name in config.stored)
    if for_code and pairs[_PRE].decode() == _PRE_OF_SPANISH:
        pairs[_PRE] = text(_PRE_OF_CODE)
    return pairs


JINA_BERT_V2 = replace(
    BERT,
    name="jina-bert-v2",
    classes=("JinaBertForMaskedLM", "JinaBertModel"),
    layout=Layout(
        required=EMBEDDING
        | TOKEN_TYPES
        | POST_NORM
        | QKV
        | layers(
            {
                "attn_output.bias": ("hidden_size",),
                "ffn_up.weight": ("up", "hidden_size"),
                "ffn_down.weight": ("hidden_size", "intermediate_size"),
                "ffn_down.bias": ("hidden_size",),
            }
        ),
        optional={
            **QKV_BIASES,
            **layers(norms("attn_q_norm", "attn_k_norm", "attn_norm_2")),
            **layers({"ffn_gate.weight": ("intermediate_size", "hidden_size"), "ffn_up.bias": ("up",)}),
            "cls.weight": ("1", "hidden_size"),
            "cls.bias": ("1",),
        },
    ),
    lengths={"up": _up_rows},
    refuse=_refuse_jina,
    pairs=lambda config: encoder_pairs("jina-bert-v2", config),
    rules=(),
    vocabulary=Vocabulary(
        kinds=("wordpiece", "whitespace", "bpe"),
        pre=("jina-v2-en", "jina-v2-es", "jina-v2-de", "jina-v2-code", "jina-v1-en"),
    ),
    tokenizer=_jina_tokenizer,
)

ALL = (NOMIC_BERT, NOMIC_BERT_MOE, JINA_BERT_V2)
