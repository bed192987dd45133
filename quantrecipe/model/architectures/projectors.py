"""The projectors of models that see: Gemma 3 and 4, GLM-4V, Llama 4, Mistral 3 (Pixtral), Qwen 2-VL to 3.5.

Source: llama.cpp, conversion/ (the classes of these names).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import isqrt
from typing import Any

import numpy as np

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.projector import activation, epsilon, projector, projector_type, reader
from quantrecipe.model.architectures.rules import Each, Found, Named, change, in_rope_order, rename
from quantrecipe.model.pairs import Pairs, boolean, booleans, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.arithmetic import Add, Cast
from quantrecipe.model.source.source import TensorSource, fail

__all__ = ["ALL"]

_ANY: tuple[str, ...] = ()


# Gemma 3


def _gemma3_name(name: str) -> str | None:
    if "vision_model.head." in name or "language_model." in name:
        return None
    name = name.removeprefix("model.")
    if not name.startswith(
        ("multi_modal_projector.", "vision_tower.", "multimodal_projector.", "vision_model.")
    ):
        return None
    return name.replace("_weight", ".weight")


def _gemma3_pairs(config: Config) -> Pairs:
    """With the number of patches that become one, where it isn't 4 in each direction."""
    pairs = projector_type("gemma3") | epsilon(config, "layer_norm_eps", default=1e-6)
    pairs["clip.use_gelu"] = boolean(True)
    tokens = reader(config).get("image_seq_length", 256)
    side = isqrt(tokens) if isinstance(tokens, int) and tokens > 0 else 16
    factor = config.need("image_size") // config.need("patch_size") // side
    if factor not in (0, 4):
        pairs["clip.vision.projector.scale_factor"] = u32(factor)
    return pairs


GEMMA3 = projector(
    classes=("Gemma3ForConditionalGeneration",),
    rename=_gemma3_name,
    rules=(
        change("multi_modal_projector.mm_soft_emb_norm.weight", lambda it: Add(source=it.source, number=1.0)),
        # llama.cpp multiplies with it in F16 (ggml-org/llama.cpp#13025)
        change(
            "multi_modal_projector.mm_input_projection.weight", lambda it: Cast(source=it.source, gives="F16")
        ),
    ),
    pairs=_gemma3_pairs,
    required={
        "mm.input_projection.weight": ("hidden_size", "text_hidden_size"),
        "mm.soft_emb_norm.weight": ("hidden_size",),
    },
)


# Gemma 4


def _gemma4_name(name: str) -> str | None:
    if "language_model." in name or not name.startswith(("model.vision_tower.", "model.embed_vision.")):
        return None
    name = name.replace("model.vision_tower.encoder.", "vision_model.model.")
    if name.endswith(("layer_scalar", "position_embedding_table")):
        return f"{name}.weight"
    return name.replace(".linear.weight", ".weight")


def _channels_first(it: Found) -> TensorSource:
    """Rows of pixels of three colours each → three pictures, one for each colour."""
    if len(it.source.shape) != 2:
        fail(it.source, "isn't of patches (expected: two dimensions)")
    rows, cols = it.source.shape
    side = isqrt(cols // 3)
    if side * side * 3 != cols:
        fail(it.source, "isn't of square patches of three colours")
    order = np.arange(cols).reshape(side, side, 3).transpose(2, 0, 1).ravel()
    return layout.reshape(
        layout.Columns(source=it.source, index=tuple(order.tolist())), (rows, 3, side, side)
    )


def _without_sound(config: Config) -> str | None:
    if config.whole.get("audio_config"):
        return "has an audio_config: its projector for sound can't be converted yet"
    return None


GEMMA4 = projector(
    classes=("Gemma4ForConditionalGeneration",),
    rename=_gemma4_name,
    rules=(change("model.vision_tower.patch_embedder.input_proj.weight", _channels_first),),
    adjust=lambda values: {**values, "image_size": 224},  # llama.cpp asks for one; pictures may have any
    pairs=lambda config: (
        projector_type("gemma4v", vision=True) | epsilon(config, "layer_norm_eps", default=1e-6)
    ),
    required={"mm.input_projection.weight": ("text_hidden_size", "hidden_size")},
    optional={
        "v.std_bias": _ANY,
        "v.std_scale": _ANY,
        "v.blk.{layer}.out_scale.weight": _ANY,
    },
    refuse=_without_sound,
)


# GLM-4V


def _visual(name: str) -> str | None:
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


_FRAMES = Each(names="visual.patch_embed.proj.weight", make=_two_frames)

GLM4V = projector(
    classes=(
        "Glm4vForConditionalGeneration",
        "Glm4vMoeForConditionalGeneration",
        "GlmOcrForConditionalGeneration",
    ),
    rename=_visual,
    rules=(_FRAMES,),
    pairs=lambda config: (
        projector_type("glm4v") | activation(config) | epsilon(config, "rms_norm_eps", default=1e-5)
    ),
    required={
        f"mm.{name}.weight": _ANY for name in ("patch_merger", "down", "gate", "up", "model.fc", "post_norm")
    },
    optional={"mm.patch_merger.bias": _ANY, "mm.post_norm.bias": _ANY},
)


# Llama 4


def _llama4_name(name: str) -> str | None:
    name = name.removeprefix("model.")
    if "multi_modal_projector" not in name and "vision_model" not in name:
        return None
    return f"{name}.weight" if name.endswith("positional_embedding_vlm") else name


def _llama4_pairs(config: Config) -> Pairs:
    if config.find("hidden_act") != "gelu":
        config.fail(f"says hidden_act: {config.find('hidden_act')!r} of its vision_config (expected: 'gelu')")
    ratio = config.number("pixel_shuffle_ratio")
    if not ratio or not 0 < ratio <= 1:
        config.fail("has no pixel_shuffle_ratio in its vision_config (expected: a number up to 1)")
    return (
        projector_type("llama4")
        | epsilon(config, "norm_eps", default=1e-5)
        | {"clip.vision.projector.scale_factor": u32(int(1 / ratio)), "clip.use_gelu": boolean(True)}
    )


LLAMA4 = projector(
    classes=("Llama4ForConditionalGeneration",),
    rename=_llama4_name,
    rules=(rename("multi_modal_projector.linear_1.{end}", "mm.model.fc.{end}"),),
    pairs=_llama4_pairs,
    required={f"mm.model.{name}.weight": _ANY for name in ("fc", "mlp.1", "mlp.2")},
)


# Mistral 3, with Pixtral's tower


def _pixtral_name(name: str) -> str | None:
    name = name.removeprefix("model.")
    return name if name.startswith(("multi_modal_projector.", "vision_tower.")) else None


def _pixtral_pairs(config: Config) -> Pairs:
    pairs = projector_type("pixtral") | epsilon(config, "layer_norm_eps", default=1e-5) | activation(config)
    merge = config.whole.get("spatial_merge_size")
    if isinstance(merge, int):
        pairs["clip.vision.spatial_merge_size"] = u32(merge)
    return pairs


PIXTRAL = projector(
    classes=("Mistral3ForConditionalGeneration", "LlavaForConditionalGeneration"),
    rename=_pixtral_name,
    rules=(
        change(
            "vision_tower.transformer.layers.{layer}.attention.{proj:q|k}_proj.{end:weight|bias}",
            in_rope_order,
        ),
    ),
    pairs=_pixtral_pairs,
    required={"mm.1.weight": _ANY, "mm.2.weight": _ANY},
    optional={
        "mm.1.bias": _ANY,
        "mm.2.bias": _ANY,
        "mm.input_norm.weight": _ANY,
        "mm.patch_merger.weight": _ANY,
    },
)


# Qwen


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
    pairs: Pairs = projector_type("qwen3vl_merger") | {"clip.use_gelu": boolean(True)}
    if (merge := config.count("spatial_merge_size")) is not None:
        pairs["clip.vision.spatial_merge_size"] = u32(merge)
    language = config.whole.get("text_config")
    number = language.get("rms_norm_eps") if isinstance(language, Mapping) else None
    pairs |= epsilon(Config(path=config.path, values={"eps": number}), "eps", default=1e-6)
    stacked = _deepstack(config)
    flags = [layer in stacked for layer in range(config.need("depth"))]
    pairs["clip.vision.is_deepstack_layers"] = booleans(flags)
    return pairs


def _of_deepstack(it: Found) -> Iterable[Named]:
    layers = _deepstack(it.config)
    place = int(it.texts["place"])
    if place >= len(layers):
        fail(it.source, f"is of the deepstack merger {place}, and config.json has {len(layers)}")
    part = it.texts["part"].replace("linear_", "")
    return [(f"v.deepstack.{layers[place]}.{part}.{it.texts['end']}", it.source)]


QWEN3VL = projector(
    classes=(
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
    ),
    rename=_visual,
    rules=(
        _FRAMES,
        rename("visual.merger.linear_fc1.{end}", "mm.0.{end}"),
        rename("visual.merger.linear_fc2.{end}", "mm.2.{end}"),
        rename("visual.merger.norm.{end}", "v.post_ln.{end}"),
        Each(
            names="visual.deepstack_merger_list.{place}.{part:norm|linear_fc1|linear_fc2}.{end}",
            make=_of_deepstack,
        ),
    ),
    names={f"v.deepstack.{{layer}}.{it}": f"v.deepstack.{{layer}}.{it}" for it in ("norm", "fc1", "fc2")},
    adjust=_qwen3_tower,
    pairs=_qwen3_pairs,
    required={"mm.0.weight": _ANY, "mm.2.weight": _ANY, "mm.0.bias": _ANY, "mm.2.bias": _ANY},
    loose={
        f"v.deepstack.{{layer}}.{it}.{end}": _ANY
        for it in ("norm", "fc1", "fc2")
        for end in ("weight", "bias")
    },
)


def _qwen2_tower(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Qwen2-VL calls the tower's width embed_dim, and the language model's hidden_size."""
    found = {"image_size": 560, **values}
    if "embed_dim" in found:
        found["intermediate_size"], found["hidden_size"] = found.get("hidden_size"), found["embed_dim"]
    return found


def _qwen2_pairs(config: Config) -> Pairs:
    kind = config.whole.get("model_type")
    if kind != "qwen2_5_vl":
        return projector_type("qwen2vl_merger") | epsilon(_whole(config), "rms_norm_eps", default=1e-6)
    pairs = projector_type("qwen2.5vl_merger") | {"clip.use_silu": boolean(True)}
    full = config.find("fullatt_block_indexes")
    if not isinstance(full, list) or not full or not all(type(it) is int for it in full):
        config.fail("has no fullatt_block_indexes in its vision_config (expected: numbers of layers)")
    step = full[0] + 1
    if any(later - earlier != step for earlier, later in pairwise(full)):
        config.fail(f"has fullatt_block_indexes {full}, which are no multiples of {step}")
    pairs["clip.vision.n_wa_pattern"] = u32(step)
    return pairs | epsilon(_whole(config), "rms_norm_eps", default=1e-6)


def _whole(config: Config) -> Config:
    return Config(path=config.path, values=config.whole)


def _three(it: Found) -> Iterable[Named]:
    """q, k and v, which are stored as one."""
    count = it.source.shape[0]
    if count % 3:
        fail(it.source, "isn't q, k and v of the same length")
    third = count // 3
    for place, name in enumerate("qkv"):
        if len(it.source.shape) == 1:
            lines = layout.reshape(it.source, (count, 1))
            part = layout.reshape(layout.rows(lines, place * third, (place + 1) * third), (third,))
        else:
            part = layout.rows(it.source, place * third, (place + 1) * third)
        yield it.name.replace("qkv", name), part


QWEN2VL = projector(
    classes=("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration", "Qwen2VLModel"),
    rename=_visual,
    rules=(_FRAMES, Each(names="visual.blocks.{layer}.attn.qkv.{end}", make=_three)),
    adjust=_qwen2_tower,
    pairs=_qwen2_pairs,
    required={"mm.0.weight": _ANY, "mm.2.weight": _ANY, "mm.0.bias": _ANY, "mm.2.bias": _ANY},
)

ALL = (GEMMA3, GEMMA4, GLM4V, LLAMA4, PIXTRAL, QWEN3VL, QWEN2VL)
