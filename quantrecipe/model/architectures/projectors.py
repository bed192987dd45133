"""The projectors of models that see: Gemma 3, GLM-4V, Llama 4, Mistral 3 (Pixtral), LightOnOCR.

Source: llama.cpp, conversion/ (the classes of these names).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.projector import (
    activation,
    epsilon,
    projector,
    projector_type,
    reader,
)
from quantrecipe.model.architectures.projectors_qwen import FRAMES, visual
from quantrecipe.model.architectures.rules import change, in_rope_order, rename
from quantrecipe.model.pairs import Pairs, boolean, u32
from quantrecipe.model.source.arithmetic import Add, Cast

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


# GLM-4V


GLM4V = projector(
    classes=(
        "Glm4vForConditionalGeneration",
        "Glm4vMoeForConditionalGeneration",
        "GlmOcrForConditionalGeneration",
    ),
    rename=visual,
    rules=(FRAMES,),
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
    if not ratio or not 1e-3 <= ratio <= 1:
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


def _other_tower(config: Config) -> str | None:
    """LLaVA has the same class, and a tower for which llama.cpp's converter has a script of its own."""
    seen = config.whole.get("vision_config")
    kind = seen.get("model_type") if isinstance(seen, Mapping) else None
    if kind == "pixtral":
        return None
    return (
        f"has a tower for pictures of the kind {shown(kind)} (of this class, only 'pixtral' can be converted)"
    )


_PIXTRAL_RULES = (
    change(
        "vision_tower.transformer.layers.{layer}.attention.{proj:q|k}_proj.{end:weight|bias}", in_rope_order
    ),
)
_PIXTRAL_OPTIONAL = {
    f"mm.{name}": _ANY for name in ("1.bias", "2.bias", "input_norm.weight", "patch_merger.weight")
}

PIXTRAL = projector(
    classes=("Mistral3ForConditionalGeneration", "LlavaForConditionalGeneration"),
    rename=_pixtral_name,
    rules=_PIXTRAL_RULES,
    pairs=_pixtral_pairs,
    required={"mm.1.weight": _ANY, "mm.2.weight": _ANY},
    optional=_PIXTRAL_OPTIONAL,
    refuse=_other_tower,
)


def _light_name(name: str) -> str | None:
    """LightOnOCR's names of the same tower."""
    name = name.replace("model.vision_encoder.", "vision_tower.")
    return _pixtral_name(name.replace("model.vision_projection.", "multi_modal_projector."))


LIGHTONOCR = projector(
    classes=("LightOnOCRForConditionalGeneration",),
    rename=_light_name,
    rules=_PIXTRAL_RULES,
    pairs=lambda config: _pixtral_pairs(config) | projector_type("lightonocr"),
    required={"mm.1.weight": _ANY, "mm.2.weight": _ANY},
    optional=_PIXTRAL_OPTIONAL,
)


ALL = (GEMMA3, GLM4V, LLAMA4, PIXTRAL, LIGHTONOCR)
