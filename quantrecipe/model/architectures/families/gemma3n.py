"""Gemma 3n: an embedding for each layer, several streams of the hidden state (AltUp), low-rank side paths (Laurel).

    model.altup_projections.{0,1,2}.weight (hidden, hidden)  ▶  altup_proj.weight (3, hidden, hidden)
    …altup.correct_output_scale                              ▶  …altup_correct_scale.weight
    embed_tokens (262,400 rows), embed_tokens_per_layer (262,144)  ▶  both filled up to the vocabulary

Its norms have their 1, unlike Gemma 3's. Pictures and sound are left out.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.families.gemma import GEMMA_VOCABULARY, gemma3_pairs
from quantrecipe.model.architectures.hyperparameters import LAYERS, count_pairs, sliding_pattern
from quantrecipe.model.architectures.layout import (
    DENSE,
    HEAD,
    POST_NORMS,
    QK_NORMS,
    Layout,
    Shapes,
    attention,
    biases,
    layers,
)
from quantrecipe.model.architectures.rules import Found, Gather, change, language_name
from quantrecipe.model.pairs import Pairs, f32s
from quantrecipe.model.source.layout import PadRows, stack
from quantrecipe.model.source.source import TensorSource

__all__ = ["ALL", "padded"]

_STREAMS = 4
"""Streams of the hidden state: of a model with another number the converter makes no GGUF."""

# llama.cpp: llama_hparams, n_embd_altup and laurel_rank are fixed numbers
_PER_LAYER, _RANK = "256", "64"

_LAYERS_WITH_ALTUP: Shapes = layers(
    {
        "inp_gate.weight": (_PER_LAYER, "hidden_size"),
        "proj.weight": ("hidden_size", _PER_LAYER),
        "post_norm.weight": ("hidden_size",),
        "altup_correct_coef.weight": (f"{_STREAMS}", f"{_STREAMS}"),
        "altup_correct_scale.weight": ("hidden_size",),
        "altup_predict_coef.weight": (f"{_STREAMS} · {_STREAMS}", f"{_STREAMS}"),
        "altup_router.weight": (f"{_STREAMS}", "hidden_size"),
        "altup_router_norm.weight": ("hidden_size",),
        "laurel_l.weight": (_RANK, "hidden_size"),
        "laurel_r.weight": ("hidden_size", _RANK),
        "laurel_post_norm.weight": ("hidden_size",),
    }
)

_WHOLE: Shapes = {
    "altup_proj.weight": (f"{_STREAMS - 1}", "hidden_size", "hidden_size"),
    "altup_unembd_proj.weight": (f"{_STREAMS - 1}", "hidden_size", "hidden_size"),
    "per_layer_token_embd.weight": ("vocab_size", f"{_PER_LAYER} · num_hidden_layers"),
    "per_layer_model_proj.weight": (f"{_PER_LAYER} · num_hidden_layers", "hidden_size"),
    "per_layer_proj_norm.weight": (_PER_LAYER,),
}


def padded(it: Found) -> TensorSource:
    """An embedding with rows of zeros for the tokens of pictures and sound, whose vectors come from elsewhere."""
    count = it.config.need("vocab_size")
    if count > 2 * it.source.rows:  # a number that is too large would make as many tokens
        it.config.fail(f"says vocab_size: {count}, but {it.name!r} has only {it.source.rows} rows")
    return PadRows(source=it.source, count=count) if it.source.rows < count else it.source


def _one_stack(name: str) -> Gather:
    """The projections of all streams but the first, as one."""
    names = tuple(f"model.{name}.{number}.weight" for number in range(_STREAMS - 1))
    return Gather(names=names, make=lambda config, layer, found: [(f"model.{name}.weight", stack(found))])


def _rename(name: str) -> str | None:
    name = f"{name}.weight" if name.endswith("_scale") else name
    return language_name(name)


def _pairs(config: Config) -> Pairs:
    pairs = gemma3_pairs("gemma3n", config)
    pairs |= count_pairs(
        "gemma3n",
        config,
        {
            "altup.active_idx": ("altup_active_idx",),
            "altup.num_inputs": ("altup_num_inputs",),
            "embedding_length_per_layer_input": ("hidden_size_per_layer_input",),
            "attention.shared_kv_layers": ("num_kv_shared_layers",),
        },
    )
    pairs["gemma3n.activation_sparsity_scale"] = f32s(_sparsity_scales(config))
    return pairs | sliding_pattern("gemma3n", config)


def _sparsity_scales(config: Config) -> list[float]:
    """How many standard deviations a number has to have not to be set to zero: one for each layer.

    The share of numbers that become zero is a quantile of the normal distribution. In float32, in PyTorch's steps.
    """
    shares = config.per_layer(config.need(*LAYERS), "activation_sparsity_pattern")
    if shares is None:
        config.fail("has no activation_sparsity_pattern (expected: a number from 0 to 1 for each layer)")
    scales = []
    for share in shares:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            what = (
                f"says activation_sparsity_pattern: {shown(share)} (expected: numbers from 0 to 1, without 1)"
            )
            config.fail(what)
        if not share:
            scales.append(-math.inf)
            continue
        both_sides = np.float32(2) * np.float32(share) - np.float32(1)
        inverse = NormalDist().inv_cdf((float(both_sides) + 1) / 2) / math.sqrt(2)  # of the error function
        scales.append(float(np.float32(inverse) * np.float32(math.sqrt(2))))
    return scales


def _refuse(config: Config) -> str | None:
    if (streams := config.count("altup_num_inputs")) != _STREAMS:
        return f"has altup_num_inputs: {streams} (what llama.cpp has: {_STREAMS})"
    return None


GEMMA3N = Architecture(
    name="gemma3n",
    classes=("Gemma3nForCausalLM", "Gemma3nForConditionalGeneration"),
    layout=Layout(
        required=attention() | QK_NORMS | DENSE | POST_NORMS | _LAYERS_WITH_ALTUP | _WHOLE,
        optional=HEAD | biases(),
    ),
    rename=_rename,
    rules=(
        change("model.embed_tokens{which:|_per_layer}.weight", padded),
        _one_stack("altup_projections"),
        _one_stack("altup_unembed_projections"),
    ),
    pairs=_pairs,
    vocabulary=GEMMA_VOCABULARY,
    refuse=_refuse,
)

ALL = (GEMMA3N,)
