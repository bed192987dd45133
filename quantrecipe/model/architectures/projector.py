"""Projectors: the towers for pictures of a model that sees, as a GGUF of their own (`--mmproj`).

What all have: the keys of a vision tower, which come from `vision_config` and from the preprocessor's settings, and the
layers of a vision transformer. To llama.cpp nearly all tensors of a tower are optional, since it has one loader for all
of them; a tower is whole where all layers have the same.

Source: llama.cpp, conversion/base.py (MmprojModel), tools/mtmd/clip.cpp (load_tensors).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture, no_reason
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.layout import Layout, Length, Part, Shapes
from quantrecipe.model.architectures.rules import Rule
from quantrecipe.model.json_file import read_json_object
from quantrecipe.model.pairs import Pairs, boolean, f32, f32s, text, u32

__all__ = ["activation", "epsilon", "projector", "projector_type", "reader"]

_LAYERS = ("n_layers", "num_hidden_layers", "n_layer", "num_layers", "depth", "layers", "encoder_layers")
_HEADS = ("num_attention_heads", "num_heads", "heads")
_FF = ("intermediate_size",)
_SETTINGS = {"preprocessor_config.json": "media_proc_cfg", "processor_config.json": "image_processor"}
"""Files with settings for pictures, the second before the first, and the object in which they may lie."""
TEXT_HIDDEN = "text_hidden_size"
"""What the language model's hidden size is called among the hyper-parameters of its projector."""


def _tower(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The hyper-parameters of `vision_config`, with the hidden size of the language model."""
    vision = values.get("vision_config")
    if not isinstance(vision, Mapping):
        return values
    language = values.get("text_config")
    found = {**values, **(language if isinstance(language, Mapping) else {})}
    return {**vision, TEXT_HIDDEN: found.get("hidden_size", found.get("n_embd"))}


def _without_vision(config: Config) -> str | None:
    if isinstance(config.whole.get("vision_config"), Mapping):
        return None
    return "has no vision_config, so there is no projector to convert"


def _layers(config: Config) -> int:
    return config.need(*_LAYERS)


def reader(config: Config) -> Mapping[str, Any]:
    """The settings by which pictures are prepared, from the files beside config.json."""
    found: dict[str, Any] = {}
    for name, inner in _SETTINGS.items():
        file = config.folder / name
        if file.is_file():
            settings = read_json_object(file)
            within = settings.get(inner)
            found |= {**settings, **(within if isinstance(within, Mapping) else {})}
    return found


def _vision_pairs(config: Config) -> Pairs:
    """The keys of a vision tower."""
    settings = reader(config)
    pairs: Pairs = {"clip.has_vision_encoder": boolean(True)}
    sizes = {
        "projection_dim": (TEXT_HIDDEN,),
        "image_size": ("image_size",),
        "patch_size": ("patch_size",),
        "embedding_length": ("hidden_size", "width"),
        "feed_forward_length": _FF,
        "block_count": _LAYERS,
        "attention.head_count": _HEADS,
    }
    pairs |= {f"clip.vision.{key}": u32(config.need(*names)) for key, names in sizes.items()}
    for name in ("image_mean", "image_std"):
        values = settings.get(name)
        if not isinstance(values, list) or not all(isinstance(it, int | float) for it in values):
            config.fail(
                f"has no {name} in preprocessor_config.json beside it (expected: a number for each colour)",
                "download that file, too",
            )
        pairs[f"clip.vision.{name}"] = f32s(values)
    return pairs


def projector_type(name: str, *, vision: bool = False) -> Pairs:
    """The key of the projector's kind; `vision`: where there may be others for sound beside it."""
    return {f"clip.{'vision.' if vision else ''}projector_type": text(name)}


def epsilon(config: Config, *names: str, default: float) -> Pairs:
    """The key of the norms' epsilon."""
    number = config.number(*names)
    return {"clip.vision.attention.layer_norm_epsilon": f32(default if number is None else number)}


def activation(config: Config) -> Pairs:
    """The key of the activation, where it is SiLU or GELU."""
    kind = config.find("hidden_act")
    return {f"clip.use_{kind}": boolean(True)} if kind in ("silu", "gelu") else {}


_TOWER = Layout(
    required={
        "v.patch_embd.weight": (),
        "v.blk.{layer}.attn_out.weight": ("hidden_size", "hidden_size"),
        "v.blk.{layer}.ffn_up.weight": ("ff", "hidden_size"),
        "v.blk.{layer}.ffn_down.weight": ("hidden_size", "ff"),
        "v.blk.{layer}.ln1.weight": ("hidden_size",),
    },
    optional={
        "v.blk.{layer}.ln2.weight": ("hidden_size",),
        "v.patch_embd.bias": ("hidden_size",),
        "v.patch_embd.weight.1": (),
        "v.position_embd.weight": (),
        "v.class_embd": ("hidden_size",),
        **{
            f"v.{norm}.{end}": ("hidden_size",)
            for norm in ("pre_ln", "post_ln", "norm_embd")
            for end in ("weight", "bias")
        },
        **{f"v.blk.{{layer}}.attn_{it}.weight": ("hidden_size", "hidden_size") for it in ("q", "k", "v")},
        **{f"v.blk.{{layer}}.attn_{it}.bias": ("hidden_size",) for it in ("q", "k", "v", "out")},
        "v.blk.{layer}.attn_qkv.weight": ("3 · hidden_size", "hidden_size"),
        "v.blk.{layer}.attn_qkv.bias": ("3 · hidden_size",),
        **{f"v.blk.{{layer}}.attn_{it}_norm.weight": ("tower_head_dim",) for it in ("q", "k")},
        **{
            f"v.blk.{{layer}}.{norm}.weight": ("hidden_size",) for norm in ("attn_post_norm", "ffn_post_norm")
        },
        "v.blk.{layer}.attn_post_norm.bias": ("hidden_size",),
        "v.blk.{layer}.ffn_gate.weight": ("ff", "hidden_size"),
        "v.blk.{layer}.ffn_gate.bias": ("ff",),
        "v.blk.{layer}.ffn_up.bias": ("ff",),
        "v.blk.{layer}.ffn_down.bias": ("hidden_size",),
        "v.blk.{layer}.ln1.bias": ("hidden_size",),
        "v.blk.{layer}.ln2.bias": ("hidden_size",),
    },
)

_LENGTHS: Mapping[str, Length] = {
    "ff": lambda config, layer: config.need(*_FF),
    "tower_head_dim": lambda config, layer: (
        config.count("head_dim") or config.need("hidden_size") // config.need(*_HEADS)
    ),
}


_NUMBERED = {name: name for name in ("mm.0", "mm.1", "mm.2", "v.patch_embd.weight.1")}
"""Names that gguf's map has as many of as there are layers, or not at all."""


def projector(
    *,
    classes: tuple[str, ...],
    rename: Callable[[str], str | None],
    pairs: Callable[[Config], Pairs],
    required: Shapes,
    optional: Shapes | None = None,
    rules: tuple[Rule, ...] = (),
    names: Mapping[str, str] | None = None,
    loose: Shapes | None = None,
    adjust: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda values: values,
    refuse: Callable[[Config], str | None] = no_reason,
) -> Architecture:
    """The projector of these classes.

    rename, rules, names: as in Architecture
    pairs:                the keys after those of the tower
    required, optional:   tensors between the tower and the language model
    loose:                optional ones that some layers have
    adjust:               `vision_config`, as the tower's keys are to see it
    """
    return Architecture(
        name="clip",
        part="mmproj",
        classes=classes,
        layout=Layout(
            required=_TOWER.required | required,
            optional=_TOWER.optional | (optional or {}),
            parts=(Part(where=lambda config: range(_layers(config)), optional=loose or {}, loose=True),),
        ),
        refuse=lambda config: _without_vision(config) or refuse(config),
        adjust=lambda values: adjust(_tower(values)),
        layers=_layers,
        common=lambda name, config: {},
        pairs=lambda config: _vision_pairs(config) | pairs(config),
        rename=rename,
        rules=rules,
        names={**_NUMBERED, **(names or {})},
        lengths=_LENGTHS,
    )
