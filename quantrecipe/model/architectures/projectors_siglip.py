"""Projectors whose tower for pictures is a plain vision transformer: SigLIP and its like.

    InternVL 1.5 to 3             InternViT, q, k and v in one matrix
    SmolVLM, Idefics 3            SigLIP
    Kimi-VL                       MoonViT, whose positions are a table of rows and columns
    LFM2-VL                       SigLIP 2, whose patches are rows of pixels
    Kimi K2.5                     the same for films: q and k rotate by rows and columns

Source: llama.cpp, conversion/ (the classes of these names).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.projector import (
    activation,
    channels_first,
    epsilon,
    projector,
    projector_type,
    reader,
    thirds,
)
from quantrecipe.model.architectures.rules import Each, Found, change, rename
from quantrecipe.model.pairs import Pairs, boolean, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.source import TensorSource, fail

__all__ = ["ALL"]

_ANY: tuple[str, ...] = ()
_SCALE = "clip.vision.projector.scale_factor"
_GELU: Pairs = {"clip.use_gelu": boolean(True)}


# InternVL

_LEAST_RATIO = 1e-3
_INTERN_NAMES = {
    f"model.multi_modal_projector.{stored}": f"mlp1.{place}"
    for stored, place in {"layer_norm": 0, "linear_1": 1, "linear_2": 3}.items()
}
_INTERN_PARTS = ("vision_model", "mlp", "model.vision_tower", "model.multi_modal_projector")


def _intern_name(name: str) -> str | None:
    """Names of InternVL's own checkpoints and of Intern-S1's, whose vectors don't all end in ".weight"."""
    if not name.startswith(_INTERN_PARTS) or "language_model." in name:
        return None
    stem, dot, end = name.rpartition(".")
    name = f"{_INTERN_NAMES.get(stem, stem)}{dot}{end}"
    if name.startswith("vision_model"):
        name = f"vision_tower.{name}"
    vector = ".ls" in name or ".lambda_" in name or "position_embedding" in name
    return f"{name}.weight" if vector and not name.endswith(".weight") else name


def _intern_tower(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Sizes of pictures and patches may be pairs: a height and a width."""
    first = {
        name: it[0]
        for name in ("image_size", "patch_size")
        if isinstance(it := values.get(name), list) and it
    }
    return {**values, **first}


def _intern_pairs(config: Config) -> Pairs:
    ratio = config.whole.get("downsample_ratio")
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not _LEAST_RATIO <= ratio <= 1:
        config.fail("has no downsample_ratio (expected: a number up to 1)")
    if config.find("hidden_act") not in ("silu", "gelu"):
        config.fail("has no hidden_act in its vision_config that llama.cpp has (expected: 'silu' or 'gelu')")
    pairs = projector_type("internvl") | epsilon(config, "layer_norm_eps", default=1e-6) | activation(config)
    pairs[_SCALE] = u32(int(1 / ratio))
    whole = Config(path=config.path, values=config.whole)
    for key, name in {"min": "min_dynamic_patch", "max": "max_dynamic_patch"}.items():
        if count := whole.count(name):
            pairs[f"clip.vision.preproc_{key}_tiles"] = u32(count)
    return pairs


INTERNVL = projector(
    classes=("InternVisionModel",),
    rename=_intern_name,
    adjust=_intern_tower,
    rules=(
        Each(
            names="vision_tower.vision_model.encoder.layers.{layer}.attn.qkv.{end}",
            make=thirds("attn.qkv", "self_attn.{}_proj"),
        ),
    ),
    pairs=_intern_pairs,
    required={f"mm.model.mlp.{place}.{end}": _ANY for place in (0, 1, 3) for end in ("weight", "bias")},
    optional={
        f"v.blk.{{layer}}.attn_{it}_norm.weight": ("hidden_size",) for it in "qk"
    },  # of all heads together
    names={"mlp1.3": "mm.model.mlp.3"},
)


# SmolVLM and Idefics 3


def _smol_name(name: str) -> str | None:
    if "language_model." in name:
        return None
    return name if any(it in name for it in ("vision_tower", "vision_model", "model.connector")) else None


def _smol_tower(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """SmolVLM 2's config.json leaves sizes out, which are then those of transformers' class."""
    if values.get("model_type") != "smolvlm_vision":
        return values
    return {"hidden_size": 1152, "num_attention_heads": 16, "intermediate_size": 3072, **values}


def _smol_pairs(config: Config) -> Pairs:
    pairs = projector_type("idefics3") | epsilon(config, "layer_norm_eps", default=1e-5)
    factor = Config(path=config.path, values=config.whole).count("scale_factor")
    pairs[_SCALE] = u32(2 if factor is None else factor)
    size = reader(config).get("size")
    longest = size.get("longest_edge") if isinstance(size, Mapping) else None
    length = longest if type(longest) is int and 0 < longest < 2**32 else config.need("image_size")
    return pairs | _GELU | {"clip.vision.preproc_image_size": u32(length)}


SMOLVLM = projector(
    classes=("SmolVLMForConditionalGeneration", "Idefics3ForConditionalGeneration"),
    rename=_smol_name,
    adjust=_smol_tower,
    pairs=_smol_pairs,
    required={"mm.model.fc.weight": _ANY, "v.position_embd.weight": _ANY},
)


# Kimi-VL

_MOON_SIDE = 64 * 14
"""A size that llama.cpp asks for, and which MoonViT doesn't have."""


def _kimi_name(name: str) -> str | None:
    if "language_model." in name:
        return None
    return name if "vision_tower" in name or "multi_modal_projector" in name else None


def _table(it: Found) -> TensorSource:
    """Positions by row and column → one list of positions."""
    if len(it.source.shape) != 3:
        fail(it.source, "isn't a table of positions (expected: rows, columns, channels)")
    rows, cols, channels = it.source.shape
    return layout.reshape(it.source, (rows * cols, channels))


KIMIVL = projector(
    classes=("KimiVLForConditionalGeneration",),
    rename=_kimi_name,
    adjust=lambda values: {**values, "image_size": _MOON_SIDE},
    rules=(
        change("vision_tower.patch_embed.pos_emb.weight", _table),
        Each(names="vision_tower.encoder.blocks.{layer}.wqkv.{end}", make=thirds("wqkv", "w{}")),
    ),
    pairs=lambda config: (
        projector_type("kimivl") | _GELU | {_SCALE: u32(2)} | epsilon(config, "layer_norm_eps", default=1e-5)
    ),
    required={
        "v.position_embd.weight": _ANY,
        **{f"mm.{name}.{end}": _ANY for name in ("input_norm", "1", "2") for end in ("weight", "bias")},
    },
)


# Kimi K2.5, whose tower's hyper-parameters have names that begin with vt_

_K25_SIDE, _K25_TIME, _K25_PATCHES, _K25_LEAST = 64, 4, 16_384, 8
"""Positions by row, column and time, and bounds of how many patches a picture has, where nothing is said."""
_PATCH, _HEADS = 14, 16


def _k25_tower(values: Mapping[str, Any]) -> Mapping[str, Any]:
    plain = {name.removeprefix("vt_"): value for name, value in values.items() if name.startswith("vt_")}
    found = {"patch_size": _PATCH, **values, **plain}  # transformers assumes some by their plain names
    side = found.get("init_pos_emb_height", _K25_SIDE)
    known = isinstance(side, int) and isinstance(found["patch_size"], int)
    return {**found, "image_size": side * found["patch_size"]} if known else found


def _k25_pairs(config: Config) -> Pairs:
    def size(name: str, default: int) -> int:
        count = config.count(name)
        return default if count is None else count

    merged = config.find("merge_kernel_size")
    factor = merged[0] if isinstance(merged, list) and merged and type(merged[0]) is int else 2
    most, patch = reader(config).get("in_patch_limit", _K25_PATCHES), config.need("patch_size")
    if type(most) is not int or not 0 < most * patch**2 < 2**32:
        config.fail(f"has an in_patch_limit of {most!r} in preprocessor_config.json beside it")
    return (
        projector_type("kimik25")
        | {
            "vision.pos_emb_height": u32(size("init_pos_emb_height", _K25_SIDE)),
            "vision.pos_emb_width": u32(size("init_pos_emb_width", _K25_SIDE)),
            "vision.pos_emb_time": u32(size("init_pos_emb_time", _K25_TIME)),
            "clip.use_gelu": boolean((config.find("projector_hidden_act") or "gelu") == "gelu"),
        }
        | epsilon(config, "projector_ln_eps", default=1e-5)
        | {
            _SCALE: u32(factor),
            "clip.vision.image_min_pixels": u32(_K25_LEAST * patch**2),
            "clip.vision.image_max_pixels": u32(most * patch**2),
        }
    )


def _k25_name(name: str) -> str | None:
    if "language_model." in name or not any(it in name for it in ("vision_tower", "mm_projector")):
        return None
    return re.sub(r"mm_projector\.(?:proj\.(?=[02]\.)|(?=linear_))", "mm_projector.proj.", name)


def _by_axis(it: Found) -> TensorSource:
    """Rows of q and k: in a head, pairs for rows and columns take turns, and become those of rows, then of columns."""
    count = it.source.shape[0]
    heads = it.config.count("num_attention_heads") or _HEADS
    if count % (3 * heads * 4):
        fail(it.source, f"isn't q, k and v of {heads} heads of a length that 4 divides")
    lines = it.source if len(it.source.shape) > 1 else layout.reshape(it.source, (count, 1))
    third = count // 3
    grid, order = (heads, third // heads // 4, 2, 2), (0, 2, 1, 3)
    parts = [layout.rows(lines, place * third, (place + 1) * third) for place in range(3)]
    turned = [layout.regroup(part, grid, order) for part in parts[:2]]
    return layout.reshape(layout.concat([*turned, parts[2]]), it.source.shape)


KIMIK25 = projector(
    classes=("KimiK25ForConditionalGeneration",),
    rename=_k25_name,
    adjust=_k25_tower,
    rules=(
        change("vision_tower.encoder.blocks.{layer}.wqkv.{end}", _by_axis),
        rename("mm_projector.proj.0.{end}", "mm.1.{end}"),
        rename("mm_projector.proj.2.{end}", "mm.2.{end}"),
    ),
    pairs=_k25_pairs,
    required={
        "v.position_embd.weight": _ANY,
        **{f"mm.{name}.{end}": _ANY for name in ("input_norm", "1", "2") for end in ("weight", "bias")},
    },
)


# LFM2-VL

_LFM2_SIDE = 256
"""A size that llama.cpp asks for, where pictures may have any."""


def _lfm2_name(name: str) -> str | None:
    name = name.removeprefix("model.")
    return name if name.startswith(("vision_tower.", "multi_modal_projector.")) else None


def _patches(it: Found) -> TensorSource:
    """Rows of pixels → pictures of patches; some checkpoints have pictures."""
    return it.source if len(it.source.shape) == 4 else channels_first(it)


def _lfm2_kept(config: Config) -> int:
    """How many layers there are up to the one whose output is used: -1 is the last."""
    used = config.whole.get("vision_feature_layer", -1)
    count = config.need("num_hidden_layers")
    if type(used) is not int or not -count <= used < 0:
        config.fail(
            f"says vision_feature_layer: {used!r} (expected: from -{count} to -1, counted from the end)"
        )
    return count + used + 1


def _lfm2_pairs(config: Config) -> Pairs:
    factor = Config(path=config.path, values=config.whole).count("downsample_factor")
    return (
        projector_type("lfm2")
        | epsilon(config, "layer_norm_eps", default=1e-6)
        | {_SCALE: u32(2 if factor is None else factor)}
        | _GELU
        | {"clip.vision.block_count": u32(_lfm2_kept(config))}
    )


LFM2VL = projector(
    classes=("Lfm2VlForConditionalGeneration",),
    rename=_lfm2_name,
    adjust=lambda values: {**values, "image_size": _LFM2_SIDE},
    rules=(change("vision_tower.vision_model.embeddings.patch_embedding.weight", _patches),),
    pairs=_lfm2_pairs,
    required={
        "v.position_embd.weight": _ANY,
        **{f"mm.{place}.{end}": _ANY for place in (1, 2) for end in ("weight", "bias")},
    },
    optional={f"mm.input_norm.{end}": _ANY for end in ("weight", "bias")},
)

ALL = (INTERNVL, SMOLVLM, KIMIVL, KIMIK25, LFM2VL)
