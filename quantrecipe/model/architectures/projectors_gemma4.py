"""Gemma 4's projector: a vision transformer, and in small models a conformer for sound.

A conformer's layer: a feed-forward network, attention, a convolution along time, and another network. Matrices of both
towers may have bounds beside them (input_max, …), to which what goes in and comes out is clipped.

Source: llama.cpp, conversion/gemma.py (Gemma4VisionAudioModel), tools/mtmd/models/gemma4a.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.layout import Shapes, layers
from quantrecipe.model.architectures.names import CLIPS
from quantrecipe.model.architectures.projector import (
    Sound,
    channels_first,
    epsilon,
    hears,
    of_sound,
    projector,
    projector_type,
)
from quantrecipe.model.architectures.rules import Found, change
from quantrecipe.model.pairs import Pairs, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.arithmetic import Cast, Whole
from quantrecipe.model.source.source import TensorSource, fail

__all__ = ["ALL"]

_ANY: tuple[str, ...] = ()
_H, _FF = "heard", "heard ff"
_SIDE = 224
"""A size of pictures that llama.cpp asks for, where they may have any."""
_BINS = 128
"""Frequencies of the spectrum, where config.json says nothing."""
_TIMES = 4
"""How much longer the conformer's feed-forward networks are."""


def _name(name: str) -> str | None:
    """The names that gguf's map has; matrices with bounds stand one step deeper in the checkpoint."""
    parts = ("model.vision_tower.", "model.embed_vision.", "model.audio_tower.", "model.embed_audio.")
    if "language_model." in name or not name.startswith(parts):
        return None
    name = name.replace("model.vision_tower.encoder.", "vision_model.model.")
    name = name.replace("model.audio_tower.", "conformer.").replace(".linear.", ".")
    vector = ("layer_scalar", "position_embedding_table", "per_dim_scale", "per_dim_key_scale")
    return f"{name}.weight" if name.endswith(vector) else name


def _as_vector(it: Found) -> TensorSource:
    """A single number as a vector of one."""
    return it.source if it.source.shape else layout.reshape(it.source, (1,))


def _softplus(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """log(1 + exp(x)), in float64 and rounded once; PyTorch's float32 may differ in the last bits."""
    found: NDArray[np.float32] = np.logaddexp(0.0, values.astype(np.float64)).astype(np.float32)
    return found


def _positive(it: Found) -> TensorSource:
    """Factors for each place in a head, which are stored as what softplus is taken of."""
    return Whole(function=_softplus, sources=(it.source,), becomes=it.source.shape)


def _by_channel(it: Found) -> TensorSource:
    """A convolution along time, of each channel by itself: (channels, 1, length) → (channels, length), in F32."""
    if len(it.source.shape) != 3 or it.source.shape[1] != 1:
        fail(it.source, "isn't a convolution of each channel by itself (expected: channels, 1, length)")
    return _in_f32(it, layout.reshape(it.source, (it.source.shape[0], it.source.shape[2])))


def _in_f32(it: Found, source: TensorSource | None = None) -> TensorSource:
    return Cast(source=source or it.source, gives="F32")


def _heard(values: Mapping[str, Any]) -> Mapping[str, Any]:
    width = values.get("hidden_size")
    return {**values, "intermediate_size": width * _TIMES} if isinstance(width, int) else values


def _clipped(prefix: str, *matrices: str) -> Shapes:
    """The bounds of these matrices of a layer."""
    return {f"{prefix}.blk.{{layer}}.{matrix}{end}": ("1",) for matrix in matrices for end in CLIPS}


_CONFORMER: Shapes = {f"a.{name}": shape for name, shape in layers(
    {
        **{f"attn_{it}.weight": (_H, _H) for it in ("q", "k", "v", "out", "k_rel")},
        "per_dim_scale.weight": _ANY,
        **{f"{name}.weight": (_H,) for name in (
            "attn_pre_norm", "attn_post_norm", "ln2", "conv_norm", "norm_conv",
            "ffn_norm", "ffn_post_norm", "ffn_norm_1", "ffn_post_norm_1",
        )},
        **{f"ffn_up{end}.weight": (_FF, _H) for end in ("", "_1")},
        **{f"ffn_down{end}.weight": (_H, _FF) for end in ("", "_1")},
        "conv_dw.weight": _ANY,
        "conv_pw1.weight": (f"2 · {_H}", _H),
        "conv_pw2.weight": (_H, _H),
    }
).items()}  # fmt: skip
_AROUND: Shapes = {
    **{f"a.conv1d.{place}{part}.weight": _ANY for place in (0, 1) for part in ("", ".norm")},
    "a.input_projection.weight": _ANY,
    "a.pre_encode.out.weight": _ANY,
    "mm.a.input_projection.weight": _ANY,
}
_SOUND = Sound(
    adjust=_heard,
    required=_CONFORMER | _AROUND,
    optional={"a.pre_encode.out.bias": _ANY}
    | _clipped("a", "attn_q", "attn_k", "attn_v", "attn_out", "conv_pw1", "conv_pw2")
    | _clipped("a", "ffn_up", "ffn_down", "ffn_up_1", "ffn_down_1"),
    needed=False,
)


def _pairs(config: Config) -> Pairs:
    pairs = projector_type("gemma4v", of="vision.") | epsilon(config, "layer_norm_eps", default=1e-6)
    if not hears(config):
        return pairs
    sound = of_sound(config)
    pairs |= projector_type("gemma4a", of="audio.")
    pairs["clip.audio.num_mel_bins"] = u32(sound.count("input_feat_size") or _BINS)
    return pairs | epsilon(sound, "layer_norm_eps", default=1e-6, of="audio")


GEMMA4 = projector(
    classes=("Gemma4ForConditionalGeneration",),
    rename=_name,
    rules=(
        change("model.vision_tower.patch_embedder.input_proj.weight", channels_first),
        change("{stem:*}.{end:input_max|input_min|output_max|output_min}", _as_vector),
        change("conformer.layers.{layer}.{stem:*}.{end:per_dim_scale|per_dim_key_scale}.weight", _positive),
        change("conformer.layers.{layer}.lconv1d.depthwise_conv1d.weight", _by_channel),
        change("conformer.subsample_conv_projection.{stem:*}.weight", _in_f32),
    ),
    adjust=lambda values: {**values, "image_size": _SIDE},
    pairs=_pairs,
    required={"mm.input_projection.weight": ("text_hidden_size", "hidden_size")},
    optional={
        "v.std_bias": _ANY,
        "v.std_scale": _ANY,
        "v.blk.{layer}.out_scale.weight": _ANY,
        **_clipped("v", "attn_q", "attn_k", "attn_v", "attn_out", "ffn_gate", "ffn_up", "ffn_down"),
    },
    sound=_SOUND,
)

ALL = (GEMMA4,)
