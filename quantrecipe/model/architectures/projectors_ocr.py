"""Projectors of models that read pages, whose towers take pictures of any size within bounds.

    PaddleOCR-VL    SigLIP
    dots.ocr        RMS norms, and feed-forward networks with a gate
    Hunyuan OCR     vectors around the picture and between its rows

Source: llama.cpp, conversion/ (the classes of these names).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isqrt
from typing import Any

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.projector import (
    epsilon,
    projector,
    projector_type,
    reader,
)
from quantrecipe.model.architectures.rules import Each, Found, Named, change
from quantrecipe.model.pairs import Pairs, boolean, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.arithmetic import Cast
from quantrecipe.model.source.source import TensorSource

__all__ = ["ALL"]

_ANY: tuple[str, ...] = ()
_SCALE = "clip.vision.projector.scale_factor"
_GELU: Pairs = {"clip.use_gelu": boolean(True)}


def _pixels(config: Config, name: str) -> int:
    """A number of pixels among the preprocessor's settings. ModelError where it isn't there."""
    value = reader(config).get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**32:
        config.fail(
            f"has no {name} in preprocessor_config.json beside it (expected: a whole number above 0)",
            "download that file, too",
        )
    return value


# PaddleOCR-VL


def _paddle_name(name: str) -> str | None:
    unused = "packing_position_embedding" in name or "vision_model.head" in name
    if unused or ("vision_model" not in name and "mlp_AR" not in name):
        return None
    return name.replace("visual.", "model.")


def _paddle_pairs(config: Config) -> Pairs:
    most = _pixels(config, "max_pixels")
    return (
        {"clip.vision.image_size": u32(isqrt(most))}
        | projector_type("paddleocr")
        | {"clip.vision.image_max_pixels": u32(most)}
        | {"clip.vision.image_min_pixels": u32(_pixels(config, "min_pixels"))}
        | _GELU
        | epsilon(config, "rms_norm_eps", default=1e-6)
    )


PADDLEOCR = projector(
    classes=("PaddleOCRVisionModel",),
    rename=_paddle_name,
    pairs=_paddle_pairs,
    required={
        "v.position_embd.weight": _ANY,
        **{f"mm.{name}.{end}": _ANY for name in ("input_norm", "1", "2") for end in ("weight", "bias")},
    },
)


# dots.ocr

_DOTS_NAMES = {"fc1": "gate_proj", "fc2": "down_proj", "fc3": "up_proj"}


def _dots_name(name: str) -> str | None:
    return name if name.startswith("vision_tower.") else None


def _dots_network(it: Found) -> Iterable[Named]:
    """The feed-forward networks' names, of which gguf's map takes the first two for those of one without a gate."""
    return [(f"visual.blocks.{it.layer}.mlp.{_DOTS_NAMES[it.texts['matrix']]}.{it.texts['end']}", it.source)]


def _dots_pairs(config: Config) -> Pairs:
    return (
        projector_type("dots_ocr")
        | {f"clip.vision.image_{it}_pixels": u32(_pixels(config, f"{it}_pixels")) for it in ("min", "max")}
        | epsilon(config, "rms_norm_eps", default=1e-5)
        | {_SCALE: u32(config.need("spatial_merge_size")), "clip.use_silu": boolean(True)}
    )


DOTSOCR = projector(
    classes=("DotsOCRForCausalLM",),
    rename=_dots_name,
    adjust=lambda values: {**values, "image_size": 0},  # any
    rules=(Each(names="vision_tower.blocks.{layer}.mlp.{matrix:fc1|fc2|fc3}.{end}", make=_dots_network),),
    pairs=_dots_pairs,
    required={
        "mm.post_norm.weight": _ANY,
        **{f"mm.{name}.{end}": _ANY for name in ("input_norm", "0", "2") for end in ("weight", "bias")},
    },
)

# Hunyuan OCR

_LARGEST = 2048


def _hunyuan_tower(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"image_size": values.get("max_image_size", _LARGEST), **values}


def _without_first(it: Found) -> TensorSource:
    """Positions without that of the class token, which pictures don't have."""
    return layout.rows(it.source, 1, it.source.shape[0])


def _in_f32(it: Found) -> TensorSource:
    return Cast(source=it.source, gives="F32")


def _hunyuan_pairs(config: Config) -> Pairs:
    merge = config.count("spatial_merge_size")
    return (
        projector_type("hunyuanvl")
        | _GELU
        | epsilon(config, "rms_norm_eps", default=1e-5)
        | {"clip.vision.spatial_merge_size": u32(2 if merge is None else merge)}
        | {f"clip.vision.image_{it}_pixels": u32(_pixels(config, f"{it}_pixels")) for it in ("min", "max")}
    )


HUNYUANOCR = projector(
    classes=("HunYuanVLForConditionalGeneration",),
    rename=lambda name: name if name.startswith("vit.") else None,
    adjust=_hunyuan_tower,
    rules=(
        change("vit.embeddings.position_embedding.weight", _without_first),
        change("vit.perceive.proj.{place:0|2}.weight", _in_f32),
    ),
    pairs=_hunyuan_pairs,
    required={
        "v.position_embd.weight": _ANY,
        **{f"mm.{name}": _ANY for name in ("0.weight", "2.weight", "model.fc.weight")},
        **{f"mm.{name}.weight": _ANY for name in ("pre_norm", "post_norm")},
        **dict.fromkeys(("v.image_newline", "mm.image_begin", "mm.image_end"), _ANY),
    },
    optional={"v.view_seperator": _ANY, **{f"mm.{name}.bias": _ANY for name in ("0", "2", "model.fc")}},
)

ALL = (PADDLEOCR, DOTSOCR, HUNYUANOCR)
