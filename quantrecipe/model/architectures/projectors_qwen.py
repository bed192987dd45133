"""The projectors of Qwen's models: Qwen2-VL to Qwen3.5, which see, and the Omni models and Qwen3-ASR, which hear.

    Qwen2-VL, Qwen2.5-VL    patches of two frames of a film; the second with windows of attention
    Qwen3-VL, Qwen3.5       outputs of some layers go to the language model, too (deepstack)
    Qwen2.5-Omni            Qwen2.5-VL's tower and Whisper's encoder, each under "thinker"
    Qwen3-Omni, Qwen3-ASR   Qwen3-VL's tower; convolutions of two dimensions in front of Whisper's layers

Source: llama.cpp, conversion/qwenvl.py and qwen3vl.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import isqrt, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.layout import Shapes
from quantrecipe.model.architectures.projector import (
    TOWER_FF,
    Sound,
    epsilon,
    of_sound,
    projector,
    projector_type,
    thirds,
)
from quantrecipe.model.architectures.projectors_sound import WHISPER, as_column, whisper_pairs, whisper_sizes
from quantrecipe.model.architectures.rules import Each, Found, Named, change, rename
from quantrecipe.model.pairs import Pairs, boolean, booleans, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.arithmetic import Cast
from quantrecipe.model.source.source import TensorSource, fail

__all__ = ["ALL", "FRAMES", "visual"]

_ANY: tuple[str, ...] = ()


def visual(name: str) -> str | None:
    """Qwen's and GLM's names begin with "model.visual." in newer checkpoints."""
    name = name.removeprefix("model.")
    return name if name.startswith("visual.") else None


def _two_frames(it: Found) -> Iterable[Named]:
    """The embedding of patches of two frames of a film, as one for each frame."""
    if len(it.source.shape) != 5 or it.source.shape[2] != 2:
        fail(it.source, "isn't an embedding of two frames (expected: channels, colours, 2, rows, cols)")
    channels, colours, frames, rows, cols = it.source.shape
    lines = layout.reshape(it.source, (channels * colours * frames, rows * cols))
    for frame, name in enumerate(("v.patch_embd.weight", "v.patch_embd.weight.1")):
        one = layout.rows(lines, frame, lines.rows, frames)
        yield name, layout.reshape(one, (channels, colours, rows, cols))


FRAMES = Each(names="visual.patch_embed.proj.weight", make=_two_frames)


def _qwen3_tower(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The picture's size follows from how many positions of patches there are."""
    positions, patch = values.get("num_position_embeddings", 2304), values.get("patch_size", 16)
    if "image_size" in values or not isinstance(positions, int) or not isinstance(patch, int):
        return values
    return {**values, "image_size": isqrt(max(positions, 0)) * patch}


def _deepstack(config: Config) -> list[int]:
    """Layers whose output goes to the language model besides the last."""
    found = config.find("deepstack_visual_indexes") or []
    layers = config.need("depth")
    if not isinstance(found, list) or not all(type(it) is int and 0 <= it < layers for it in found):
        config.fail("has deepstack_visual_indexes that aren't layers of its vision tower")
    return found


def _qwen3_pairs(config: Config) -> Pairs:
    return projector_type("qwen3vl_merger") | _qwen3_tower_pairs(config)


def _qwen3_tower_pairs(config: Config) -> Pairs:
    pairs: Pairs = {"clip.use_gelu": boolean(True)}
    if (merge := config.count("spatial_merge_size")) is not None:
        pairs["clip.vision.spatial_merge_size"] = u32(merge)
    language = config.whole.get("text_config") or _thinker(config).get("text_config")
    number = language.get("rms_norm_eps") if isinstance(language, Mapping) else None
    pairs |= epsilon(Config(path=config.path, values={"eps": number}), "eps", default=1e-6)
    stacked = _deepstack(config)
    flags = [layer in stacked for layer in range(config.need("depth"))]
    pairs["clip.vision.is_deepstack_layers"] = booleans(flags)
    return pairs


def _thinker(config: Config) -> Mapping[str, Any]:
    """What config.json says of the part that sees, hears and reads, where there is one that speaks as well."""
    found = config.whole.get("thinker_config")
    return found if isinstance(found, Mapping) else {}


def _of_deepstack(it: Found) -> Iterable[Named]:
    layers = _deepstack(it.config)
    place = int(it.texts["place"])
    if place >= len(layers):
        fail(it.source, f"is of the deepstack merger {place}, and config.json has {len(layers)}")
    part = it.texts["part"].replace("linear_", "")
    return [(f"v.deepstack.{layers[place]}.{part}.{it.texts['end']}", it.source)]


_QWEN3_RULES = (
    FRAMES,
    rename("visual.merger.linear_fc1.{end}", "mm.0.{end}"),
    rename("visual.merger.linear_fc2.{end}", "mm.2.{end}"),
    rename("visual.merger.norm.{end}", "v.post_ln.{end}"),
    Each(
        names="visual.deepstack_merger_list.{place}.{part:norm|linear_fc1|linear_fc2}.{end}",
        make=_of_deepstack,
    ),
)
_QWEN3_NAMES = {f"v.deepstack.{{layer}}.{it}": f"v.deepstack.{{layer}}.{it}" for it in ("norm", "fc1", "fc2")}
_MERGER: Shapes = {f"mm.{place}.{end}": _ANY for place in (0, 2) for end in ("weight", "bias")}
_DEEPSTACK: Shapes = {
    f"v.deepstack.{{layer}}.{it}.{end}": _ANY for it in ("norm", "fc1", "fc2") for end in ("weight", "bias")
}

QWEN3VL = projector(
    classes=(
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
    ),
    rename=visual,
    rules=_QWEN3_RULES,
    names=_QWEN3_NAMES,
    adjust=_qwen3_tower,
    pairs=_qwen3_pairs,
    required=_MERGER,
    loose=_DEEPSTACK,
)


_RATIO, _MOST = 4, 1000
"""How much longer the feed-forward network is, where config.json says nothing. Source: Qwen2VLVisionConfig"""


def _qwen2_tower(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Qwen2-VL calls the tower's width embed_dim, and the language model's hidden_size.

    The key of the feed-forward length has the latter, as the converter writes it; llama.cpp has no use for it.
    """
    found = {"image_size": 560, **values}
    if "embed_dim" in found:
        found["intermediate_size"], found["hidden_size"] = found.get("hidden_size"), found["embed_dim"]
        ratio, width = found.get("mlp_ratio", _RATIO), found["embed_dim"]
        if isinstance(ratio, int | float) and isinstance(width, int) and 0 < ratio < _MOST:
            found[TOWER_FF] = int(width * ratio)
    return found


def _qwen2_pairs(config: Config) -> Pairs:
    if config.whole.get("model_type") == "qwen2_5_vl":
        return _windows(config, "qwen2.5vl_merger")
    return projector_type("qwen2vl_merger") | epsilon(_whole(config), "rms_norm_eps", default=1e-6)


def _windows(config: Config, kind: str) -> Pairs:
    """The keys of a tower most of whose layers attend to windows."""
    pairs: Pairs = projector_type(kind) | {"clip.use_silu": boolean(True)}
    full = config.find("fullatt_block_indexes")
    layers = config.need("depth")
    if not isinstance(full, list) or not full or not all(type(it) is int and 0 <= it < layers for it in full):
        config.fail("has no fullatt_block_indexes in its vision_config (expected: numbers of layers)")
    step = full[0] + 1
    if any(later - earlier != step for earlier, later in pairwise(full)):
        config.fail(f"has fullatt_block_indexes {full}, which are no multiples of {step}")
    pairs["clip.vision.n_wa_pattern"] = u32(step)
    return pairs | epsilon(_whole(config), "rms_norm_eps", default=1e-6)


def _whole(config: Config) -> Config:
    return Config(path=config.path, values=config.whole)


_QWEN2_RULES = (FRAMES, Each(names="visual.blocks.{layer}.attn.qkv.{end}", make=thirds("qkv", "{}")))

QWEN2VL = projector(
    classes=("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration", "Qwen2VLModel"),
    rename=visual,
    rules=_QWEN2_RULES,
    adjust=_qwen2_tower,
    pairs=_qwen2_pairs,
    required=_MERGER,
)


# Qwen2.5-Omni

_FRAMES_OF_SOUND = 1500
_TIMESCALE = 10_000
_VISION, _AUDIO = "thinker_config.vision_config", "thinker_config.audio_config"


def _waves(config: Config) -> Mapping[str, NDArray[np.float32]]:
    """Whisper's positions: sines and cosines, of which checkpoints hold nothing. Each step is rounded to float32."""
    half = of_sound(config).need("hidden_size") // 2
    step = np.float32(log(_TIMESCALE) / max(half - 1, 1))
    exponents = -step * np.arange(half, dtype=np.float32)
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angles = (np.arange(_FRAMES_OF_SOUND, dtype=np.float32)[:, None] * frequencies[None, :]).astype(
        np.float64
    )
    return {
        "a.position_embd.weight": np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    }


def _omni_name(name: str) -> str | None:
    """Without "thinker."; beginning and end of sound are in the checkpoint, and not used."""
    name = name.removeprefix("thinker.")
    parts = ("visual.", "audio_tower.")
    return name if name.startswith(parts) and "audio_bos_eos_token" not in name else None


def _omni_pairs(config: Config) -> Pairs:
    return whisper_pairs(config) | _windows(config, "qwen2.5o")


def _in_f16(it: Found) -> TensorSource:
    """A convolution, as ggml's im2col takes it."""
    return Cast(source=it.source, gives="F16")


QWEN25OMNI = projector(
    classes=("Qwen2_5OmniModel",),
    rename=_omni_name,
    rules=(
        *_QWEN2_RULES,
        change("audio_tower.conv{place:1|2}.bias", as_column),
        change("audio_tower.conv{place:1|2}.weight", _in_f16),
    ),
    names={f"audio_tower.conv{place}": f"a.conv1d.{place}" for place in (1, 2)},
    section=_VISION,
    adjust=_qwen2_tower,
    pairs=_omni_pairs,
    required=_MERGER,
    sound=Sound(
        section=_AUDIO,
        adjust=whisper_sizes,
        required=WHISPER
        | {f"a.conv1d.{place}.{end}": _ANY for place in (1, 2) for end in ("weight", "bias")}
        | {f"mm.a.fc.{end}": _ANY for end in ("weight", "bias")},
    ),
    computed=_waves,
)


# Qwen3-Omni and Qwen3-ASR

_MERGER_NAMES = {".ln_q": ".norm", ".mlp.0": ".linear_fc1", ".mlp.2": ".linear_fc2"}


def _qwen3_omni_name(name: str) -> str | None:
    """Without "thinker.", and with Qwen3-VL's names of what leads to the language model."""
    name = name.removeprefix("thinker.").removeprefix("model.")
    if not name.startswith(("visual.", "audio_tower.")):
        return None
    if name.startswith(("visual.merger.", "visual.merger_list.")):
        for stored, usual in _MERGER_NAMES.items():
            name = name.replace(stored, usual)
    return name.replace("visual.merger_list.", "visual.deepstack_merger_list.")


def _as_plane(it: Found) -> TensorSource:
    """A bias as llama.cpp adds it to each place of a picture: (n) → (n, 1, 1)."""
    return layout.reshape(it.source, (*it.source.shape, 1, 1))


_QWEN3_SOUND = Sound(
    section=_AUDIO,
    adjust=whisper_sizes,
    required=WHISPER
    | {f"a.conv2d.{place}.{end}": _ANY for place in (1, 2, 3) for end in ("weight", "bias")}
    | {f"mm.a.mlp.{place}.{end}": _ANY for place in (1, 2) for end in ("weight", "bias")}
    | {"a.conv_out.weight": _ANY},
    optional={"a.conv_out.bias": _ANY, "a.blk.{layer}.attn_k.bias": ("heard",)},
)
_SOUND_RULES = (
    change("audio_tower.conv2d{place:1|2|3}.bias", _as_plane),
    change("audio_tower.conv2d{place:1|2|3}.weight", _in_f16),
    change("audio_tower.conv_out.weight", _in_f16),
)
_SOUND_NAMES = {f"audio_tower.conv2d{place}": f"a.conv2d.{place}" for place in (1, 2, 3)} | {
    f"audio_tower.proj{place}": f"mm.a.mlp.{place}" for place in (1, 2)
}
_HEARS = projector_type("qwen3a", of="audio.")

QWEN3OMNI = projector(
    classes=("Qwen3OmniMoeForConditionalGeneration",),
    rename=_qwen3_omni_name,
    rules=(*_QWEN3_RULES, *_SOUND_RULES),
    names=_QWEN3_NAMES | _SOUND_NAMES,
    section=_VISION,
    adjust=_qwen3_tower,
    pairs=lambda config: (
        whisper_pairs(config)
        | _qwen3_tower_pairs(config)
        | projector_type("qwen3vl_merger", of="vision.")
        | _HEARS
    ),
    required=_MERGER,
    loose=_DEEPSTACK,
    sound=_QWEN3_SOUND,
    computed=_waves,
)

QWEN3ASR = projector(
    classes=("Qwen3ASRForConditionalGeneration",),
    rename=_qwen3_omni_name,
    rules=_SOUND_RULES,
    names=_SOUND_NAMES,
    section=None,
    pairs=lambda config: whisper_pairs(config) | _HEARS,
    sound=_QWEN3_SOUND,
    computed=_waves,
)

ALL = (QWEN3VL, QWEN2VL, QWEN25OMNI, QWEN3OMNI, QWEN3ASR)
