"""Projectors of models that hear: Whisper's encoder, and what leads from it to the language model.

    Qwen2-Audio, Audio Flamingo 3    one or two matrices
    Ultravox, Voxtral                several frames (stack_factor) become one

Source: llama.cpp, conversion/ultravox.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.layout import Shapes, layers
from quantrecipe.model.architectures.projector import Sound, epsilon, of_sound, projector, projector_type
from quantrecipe.model.architectures.rules import Found, change
from quantrecipe.model.pairs import Pairs, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.arithmetic import Cast
from quantrecipe.model.source.source import TensorSource

__all__ = ["ALL"]

_ANY: tuple[str, ...] = ()
_H, _FF = "heard", "heard ff"
_SIZES = {
    "hidden_size": "d_model",
    "intermediate_size": "encoder_ffn_dim",
    "num_attention_heads": "encoder_attention_heads",
}


def whisper_sizes(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sizes of the encoder under the names that other towers have."""
    return {**{name: values[stored] for name, stored in _SIZES.items() if stored in values}, **values}


WHISPER: Shapes = {f"a.post_ln.{end}": (_H,) for end in ("weight", "bias")} | {
    f"a.{name}": shape
    for name, shape in layers(
        {
            **{f"attn_{it}.weight": (_H, _H) for it in ("q", "k", "v", "out")},
            **{f"attn_{it}.bias": (_H,) for it in ("q", "v", "out")},
            "ffn_up.weight": (_FF, _H),
            "ffn_up.bias": (_FF,),
            "ffn_down.weight": (_H, _FF),
            "ffn_down.bias": (_H,),
            **{f"{norm}.{end}": (_H,) for norm in ("ln1", "ln2") for end in ("weight", "bias")},
        }
    ).items()
}
"""The layers of Whisper's encoder, whose k has no bias, and the norm behind them."""

CONVOLUTIONS: Shapes = {
    "a.position_embd.weight": _ANY,
    **{f"a.conv1d.{place}.{end}": _ANY for place in (1, 2) for end in ("weight", "bias")},
}
"""What makes frames of sound, two at a time, from a spectrum; and the positions."""


def as_column(it: Found) -> TensorSource:
    """A bias as llama.cpp adds it to each frame: (n) → (n, 1)."""
    return layout.reshape(it.source, (*it.source.shape, 1))


def _name(name: str) -> str | None:
    """The names of what leads to the language model would be a picture's."""
    if "language_model." in name:
        return None
    return f"audio.{name}" if name.startswith("multi_modal_projector") else name


def whisper_pairs(config: Config) -> Pairs:
    """The keys of Whisper's encoder besides those of all towers for sound."""
    found = of_sound(config)
    return {"clip.audio.num_mel_bins": u32(found.need("num_mel_bins"))} | epsilon(
        found, "layer_norm_eps", default=1e-5, of="audio"
    )


def _whisper(
    classes: tuple[str, ...],
    kind: str,
    connection: Shapes,
    stacked: Callable[[Config], int] | None = None,
    convolution: str = "F16",  # ggml's im2col takes it so
) -> Architecture:
    """The encoder of these classes.

    connection:  the tensors between it and the language model
    stacked:     how many frames become one
    convolution: the type that its convolutions have in the GGUF
    """

    def pairs(config: Config) -> Pairs:
        found = projector_type(kind) | whisper_pairs(config)
        return found | (
            {} if stacked is None else {"clip.audio.projector.stack_factor": u32(stacked(config))}
        )

    return projector(
        classes=classes,
        section=None,
        sound=Sound(adjust=whisper_sizes, required=WHISPER | CONVOLUTIONS | connection),
        rename=_name,
        rules=(
            change("audio_tower.conv{place:1|2}.bias", as_column),
            change(
                "audio_tower.conv{place:1|2}.weight", lambda it: Cast(source=it.source, gives=convolution)
            ),
        ),
        names={f"audio_tower.conv{place}": f"a.conv1d.{place}" for place in (1, 2)}
        | {f"audio.multi_modal_projector.linear_{place}": f"mm.a.mlp.{place}" for place in (1, 2)},
        pairs=pairs,
    )


def _stack_factor(config: Config) -> int:
    return Config(path=config.path, values=config.whole).need("stack_factor")


_TWO = {f"mm.a.mlp.{place}.weight": _ANY for place in (1, 2)}
_TWO_BIASES = {f"mm.a.mlp.{place}.bias": _ANY for place in (1, 2)}

ALL = (
    _whisper(
        ("Qwen2AudioForConditionalGeneration",),
        "qwen2a",
        {f"mm.a.fc.{end}": _ANY for end in ("weight", "bias")},
    ),
    _whisper(("VoxtralForConditionalGeneration",), "voxtral", _TWO, stacked=lambda config: 4),
    _whisper(
        ("UltravoxModel",),
        "ultravox",
        _TWO | {"mm.a.norm_pre.weight": _ANY, "mm.a.norm_mid.weight": _ANY},
        _stack_factor,
    ),
    _whisper(
        ("AudioFlamingo3ForConditionalGeneration",), "musicflamingo", _TWO | _TWO_BIASES, convolution="F32"
    ),
)
