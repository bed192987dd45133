"""Projectors: the towers for pictures and sound of a model that sees or hears, as a GGUF of their own (`--mmproj`).

What all have: the keys of their towers, which come from `vision_config`, `audio_config` and the preprocessor's
settings, and the layers of a transformer. To llama.cpp nearly all tensors of a tower are optional, since it has one
loader for all of them; a tower is whole where all layers have the same.

Hyper-parameters at the root are those of the tower for pictures, and those of a tower for sound stand under "audio".

Source: llama.cpp, conversion/base.py (MmprojModel), tools/mtmd/clip.cpp (load_tensors).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isqrt
from typing import Any, TypeAlias

import numpy as np

from quantrecipe.model.architectures.architecture import Architecture, Computed, no_reason
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.layout import Layout, Length, Part, Shapes
from quantrecipe.model.architectures.rules import Found, Named, Rule
from quantrecipe.model.json_file import read_json_object
from quantrecipe.model.pairs import Pairs, boolean, f32, f32s, text, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.source import TensorSource, fail

__all__ = [
    "TOWER_FF",
    "Sound",
    "activation",
    "channels_first",
    "epsilon",
    "hears",
    "of_sound",
    "projector",
    "projector_type",
    "reader",
    "thirds",
]

_LAYERS = ("n_layers", "num_hidden_layers", "n_layer", "num_layers", "depth", "layers", "encoder_layers")
_HEADS = ("num_attention_heads", "num_heads", "heads")
_FF = ("intermediate_size",)
_SETTINGS = {"preprocessor_config.json": "media_proc_cfg", "processor_config.json": "image_processor"}
"""Files with settings for pictures, the second before the first, and the object in which they may lie."""
TEXT_HIDDEN = "text_hidden_size"
"""What the language model's hidden size is called among the hyper-parameters of its projector."""
TOWER_FF = "tower_intermediate_size"
"""The length of the tower's feed-forward network, where the key has another number."""


Adjust: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]
_HEARD = "audio"


def _as_it_is(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return values


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """A tower for sound.

    section:            where config.json has its hyper-parameters: "audio_config", "thinker_config.audio_config"
    adjust:             these, as the tower's keys are to see them
    required, optional: its tensors, those between it and the language model included
    needed:             False where some models of the classes have no such tower
    """

    section: str = "audio_config"
    adjust: Adjust = _as_it_is
    required: Shapes
    optional: Shapes = field(default_factory=dict)
    needed: bool = True


def _within(values: Mapping[str, Any], section: str) -> Mapping[str, Any] | None:
    """A part of config.json, by a name with dots; None where there is none."""
    found: Any = values
    for name in section.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) and found else None


def _towers(section: str | None, adjust: Adjust, sound: Sound | None) -> Adjust:
    """What brings the towers' hyper-parameters to their places, with the hidden size of the language model."""

    def bring(values: Mapping[str, Any]) -> Mapping[str, Any]:
        language = values.get("text_config")
        found = {**values, **(language if isinstance(language, Mapping) else {})}
        made: dict[str, Any] = {TEXT_HIDDEN: found.get("hidden_size", found.get("n_embd"))}
        if section is not None and (seen := _within(values, section)) is not None:
            made = {**adjust({**seen, **made})}
        if sound is not None and (heard := _within(values, sound.section)) is not None:
            made[_HEARD] = {**sound.adjust(heard), TEXT_HIDDEN: made[TEXT_HIDDEN]}
        return made

    return bring


def of_sound(config: Config) -> Config:
    """The hyper-parameters of the tower for sound."""
    values = config.values.get(_HEARD)
    return replace(config, values=values if isinstance(values, Mapping) else {}, rope={})


def hears(config: Config) -> bool:
    """Whether there is a tower for sound."""
    return _HEARD in config.values


def _missing(config: Config, section: str | None, sound: Sound | None) -> str | None:
    wanted = [section] if section is not None else []
    wanted += [sound.section] if sound is not None and sound.needed else []
    missing = [it for it in wanted if _within(config.whole, it) is None]
    return f"has no {missing[0]}, so there is no projector to convert" if missing else None


def _heard_layers(config: Config) -> range:
    return range(of_sound(config).need(*_LAYERS) if hears(config) else 0)


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
    if (side := config.count("image_size")) is None:
        config.fail("has no image_size in its vision_config (expected: a whole number)")
    pairs: Pairs = {
        "clip.has_vision_encoder": boolean(True),
        "clip.vision.projection_dim": u32(config.need(TEXT_HIDDEN)),
        "clip.vision.image_size": u32(side),
    }
    sizes = {
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


def projector_type(name: str, *, of: str = "") -> Pairs:
    """The key of the projector's kind; `of`: "vision." or "audio." where there may be both."""
    return {f"clip.{of}projector_type": text(name)}


def epsilon(config: Config, *names: str, default: float, of: str = "vision") -> Pairs:
    """The key of the norms' epsilon."""
    number = config.number(*names)
    return {f"clip.{of}.attention.layer_norm_epsilon": f32(default if number is None else number)}


def _sound_pairs(config: Config) -> Pairs:
    """The keys of a tower for sound."""
    found = of_sound(config)
    sizes = {
        "projection_dim": (TEXT_HIDDEN,),
        "embedding_length": ("hidden_size",),
        "feed_forward_length": _FF,
        "block_count": _LAYERS,
        "attention.head_count": ("num_attention_heads",),
    }
    pairs: Pairs = {"clip.has_audio_encoder": boolean(True)}
    return pairs | {f"clip.audio.{key}": u32(found.need(*names)) for key, names in sizes.items()}


def activation(config: Config) -> Pairs:
    """The key of the activation, where it is SiLU or GELU."""
    kind = config.find("hidden_act")
    return {f"clip.use_{kind}": boolean(True)} if kind in ("silu", "gelu") else {}


def channels_first(it: Found) -> TensorSource:
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


def thirds(fused: str, one: str) -> Callable[[Found], Iterable[Named]]:
    """Make q, k and v of a tensor that holds all three; `fused` in its name becomes `one`, with a letter for "{}"."""

    def split(it: Found) -> Iterable[Named]:
        count = it.source.shape[0]
        if count % 3:
            fail(it.source, "isn't q, k and v of the same length")
        third = count // 3
        lines = it.source if len(it.source.shape) > 1 else layout.reshape(it.source, (count, 1))
        for place, letter in enumerate("qkv"):
            part = layout.rows(lines, place * third, (place + 1) * third)
            yield (
                it.name.replace(fused, one.format(letter)),
                layout.reshape(part, (third, *it.source.shape[1:])),
            )

    return split


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
        **{f"v.blk.{{layer}}.{it}.weight": ("hidden_size",) for it in ("ls1", "ls2")},
    },
)

_LENGTHS: Mapping[str, Length] = {
    "ff": lambda config, layer: config.count(TOWER_FF) or config.need(*_FF),
    "tower_head_dim": lambda config, layer: (
        config.count("head_dim") or config.need("hidden_size") // config.need(*_HEADS)
    ),
    "heard": lambda config, layer: of_sound(config).need("hidden_size"),
    "heard ff": lambda config, layer: of_sound(config).need(*_FF),
}


_NUMBERED = {
    name: name for name in ("v.patch_embd.weight.1", *(f"mm.{place}" for place in range(3)), "mm.model.mlp.3")
}
"""Names that gguf's map has as many of as there are layers, or not at all."""


def projector(
    *,
    classes: tuple[str, ...],
    rename: Callable[[str], str | None],
    pairs: Callable[[Config], Pairs],
    required: Shapes | None = None,
    optional: Shapes | None = None,
    rules: tuple[Rule, ...] = (),
    names: Mapping[str, str] | None = None,
    loose: Shapes | None = None,
    section: str | None = "vision_config",
    adjust: Adjust = _as_it_is,
    sound: Sound | None = None,
    refuse: Callable[[Config], str | None] = no_reason,
    layers: Callable[[Config], int] = lambda config: config.need(*_LAYERS),
    computed: Callable[[Config], Mapping[str, Computed]] = lambda config: {},
) -> Architecture:
    """The projector of these classes.

    rename, rules, names, computed: as in Architecture
    pairs:                the keys after those of the towers
    required, optional:   tensors between the tower for pictures and the language model
    loose:                optional ones that some layers have
    section:              where config.json has the hyper-parameters of the tower for pictures, None without one
    adjust:               these, as the tower's keys are to see them
    sound:                the tower for sound
    layers:               how many layers of the tower for pictures are kept
    """

    def seen(config: Config) -> range:
        return range(0 if section is None else layers(config))

    def all_pairs(config: Config) -> Pairs:
        found = {} if section is None else _vision_pairs(config)
        return found | (_sound_pairs(config) if hears(config) else {}) | pairs(config)

    parts = [
        Part(
            where=seen,
            required=_TOWER.required | (required or {}),
            optional=_TOWER.optional | (optional or {}),
        ),
        Part(where=seen, optional=loose or {}, loose=True),
    ]
    if sound is not None:
        parts.append(Part(where=_heard_layers, required=sound.required, optional=sound.optional))
    return Architecture(
        name="clip",
        part="mmproj",
        classes=classes,
        layout=Layout(parts=tuple(parts)),
        refuse=lambda config: _missing(config, section, sound) or refuse(config),
        adjust=_towers(section, adjust, sound),
        layers=lambda config: max(len(seen(config)), len(_heard_layers(config))),
        common=lambda name, config: {},
        pairs=all_pairs,
        rename=rename,
        rules=rules,
        names={**_NUMBERED, **(names or {})},
        lengths=_LENGTHS,
        computed=computed,
    )
