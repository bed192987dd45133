"""Nomic Embed: BERT's frame of norms behind, with a rotary embedding.

    nomic-bert      version 1 and 1.5: q, k and v in one matrix, no biases, a gate
    nomic-bert-moe  version 2: biases, and no gate; one of `moe_every_n_layers` layers has experts

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
    NO_GGUF,
    POST_NORM,
    TOKEN_TYPES,
    encoder_pairs,
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
from quantrecipe.model.pairs import Pairs, f32s, i32s, texts, u32
from quantrecipe.model.source.layout import Transpose, reshape
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_TRAINED = {(8192, 2048): 2048, (2048, 2048): 512}
"""n_positions and max_trained_positions → the places that the model was trained for. Source: Nomic's model cards."""
_MASK = 250_001
"""The number of <mask>, which XLM-RoBERTa's sentencepiece.bpe.model lacks."""
_CONTROL = 3  # llama.cpp: enum llama_token_type

_FUSED: Shapes = layers(
    {
        "attn_qkv.weight": ("3 · hidden_size", "hidden_size"),
        "ffn_down.weight": ("hidden_size", "intermediate_size"),
    }
)


def _is_moe(config: Config) -> bool:
    return bool(config.find("moe_every_n_layers"))


def _places(values: Mapping[str, Any]) -> int | None:
    """How many places the model was trained for; None where it isn't known."""
    said = values.get("n_positions"), values.get("max_trained_positions", 2048)
    return next((places for known, places in _TRAINED.items() if known == said), None)


def _trained_places(values: Mapping[str, Any]) -> Mapping[str, Any]:
    places = _places(values)
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
            what = f"says {name}: {shown(found)}, but llama.cpp has {shown(value)} for this architecture"
            config.fail(what, NO_GGUF)
    if _places(config.whole) is None:
        known = " or ".join(map(str, _TRAINED))
        said = (shown(config.whole.get(name)) for name in ("n_positions", "max_trained_positions"))
        what = f"says n_positions and max_trained_positions: {', '.join(said)} (expected: {known})"
        config.fail(what, "correct them, if the model is one of Nomic's")
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


ALL = (NOMIC_BERT, NOMIC_BERT_MOE)
