"""Rotary settings as transformers' configuration classes read them: older spellings become `rope_parameters`.

    {"rope_theta": 1e6, "rope_scaling": {"type": "yarn", …}}  →  {"rope_theta": 1e6, "rope_type": "yarn", …}
    {"rope_theta": 1e6, "rope_local_base_freq": 1e4}          →  {"full_attention": {…}, "sliding_attention": {…}}

What a class assumes stands under "rope" in defaults.json. `rope.py` takes it from there, for models of every class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

__all__ = ["NOT_CONVERTED", "TWO_THETAS", "rope_settings"]

Settings: TypeAlias = dict[str, Any]

_NO_SHARE = frozenset({"qwen2_vl_text", "qwen2_5_vl_text"})
"""Classes that always rotate whole heads."""
_OWN_CONTEXT = ("llama3", "yarn", "longrope")
_CONTEXT = ("max_position_embeddings", "max_seq_len", "model_max_length")
"""What classes call the context length."""
TWO_THETAS = {
    "gemma3_text": ("rope_theta", "rope_local_base_freq", ("full_attention",)),
    "gemma3n_text": ("rope_theta", "rope_local_base_freq", ("full_attention",)),
    "modernbert": ("global_rope_theta", "local_rope_theta", ("full_attention", "sliding_attention")),
    "olmo3": ("rope_theta", "", ("full_attention",)),
}
"""Classes with settings for each kind of layer, which older files spell flat.

By model type: the key of the base frequency of full attention, that of sliding attention, and to which of them
`rope_scaling` applies.
"""
NOT_CONVERTED = frozenset({"gemma4_text", "gemma4_unified_text", "laguna", "mellum"})
"""Classes that take `rope_parameters` as they are: no older file of them exists."""


def rope_settings(kind: str, values: Mapping[str, Any], assumed: Mapping[str, Any]) -> Settings | None:
    """Return `rope_parameters` as the class of the model type `kind` makes it of config.json's `values`.

    `assumed` is what defaults.json says of it. None where settings aren't objects: they stay as they are then, and
    rope.py refuses them.
    """
    beside, alone = assumed.get("beside", assumed), assumed.get("alone", assumed)
    given, scaling = values.get("rope_parameters"), values.get("rope_scaling")
    kinds = (
        [given.get(name) for name in ("full_attention", "sliding_attention")]
        if isinstance(given, Mapping)
        else []
    )
    if not all(settings is None or isinstance(settings, Mapping) for settings in (given, scaling, *kinds)):
        return None
    if kind in NOT_CONVERTED:
        return _copy(alone if given is None else given)
    if kind in TWO_THETAS:
        return _by_attention(values, given, scaling, assumed, *TWO_THETAS[kind])
    rope = _copy((scaling or given or {}) if given is not None or scaling or alone is beside else alone)
    theta, partial = _theta(kind, values, beside), _partial(kind, values, beside)
    nested = [rope[key] for key in _nested(values, rope)] or [rope]
    for settings in nested:
        settings.setdefault("rope_theta", theta)
        if partial is not None:
            settings.setdefault("partial_rotary_factor", partial)
        _standardize(settings, values, beside)
    if kind in _RETYPED:
        rope["rope_type"] = _RETYPED[kind](rope.get("rope_type"))
    return rope


def _copy(settings: Mapping[str, Any]) -> Settings:
    return {key: dict(value) if isinstance(value, Mapping) else value for key, value in settings.items()}


def _nested(values: Mapping[str, Any], rope: Settings) -> list[str]:
    """The keys of `rope` that are kinds of layers, with settings of their own."""
    kinds = values.get("layer_types")
    names = {kind for kind in kinds if isinstance(kind, str)} if isinstance(kinds, list) else set()
    return [key for key, value in rope.items() if key in names and isinstance(value, dict)]


def _theta(kind: str, values: Mapping[str, Any], assumed: Mapping[str, Any]) -> Any:
    theta = values.get("rotary_emb_base" if kind == "gpt_neox" else "rope_theta")
    return assumed.get("rope_theta") if theta is None else theta


def _partial(kind: str, values: Mapping[str, Any], assumed: Mapping[str, Any]) -> Any:
    """The share of a head that is rotated; MiniMax M2 says it as a length."""
    if kind in _NO_SHARE:
        return None
    partial = values.get("rotary_pct" if kind == "gpt_neox" else "partial_rotary_factor")
    if kind == "minimax_m2" and "partial_rotary_factor" not in values:
        length, head = values.get("rotary_dim"), values.get("head_dim")
        if isinstance(length, int) and isinstance(head, int) and head:
            return length / head
    return assumed.get("partial_rotary_factor") if partial is None else partial


def _standardize(settings: Settings, values: Mapping[str, Any], assumed: Mapping[str, Any]) -> None:
    settings.setdefault("rope_type", settings.get("type", "default"))
    if settings["rope_type"] == "default":
        settings["rope_type"] = assumed.get("rope_type", "default")
    if settings["rope_type"] in _OWN_CONTEXT:
        length = values.get("original_max_position_embeddings")
        if length is not None:
            settings["original_max_position_embeddings"] = length
        elif (length := next(filter(None, map(values.get, _CONTEXT)), None)) is not None:
            settings.setdefault("original_max_position_embeddings", length)


def _by_attention(
    values: Mapping[str, Any],
    given: Mapping[str, Any] | None,
    scaling: Mapping[str, Any] | None,
    assumed: Mapping[str, Any],
    full: str,
    sliding: str,
    scaled: tuple[str, ...],
) -> Settings:
    rope = _copy(given if given is not None else {"full_attention": {}, "sliding_attention": {}})
    for kind, key in {"full_attention": full, "sliding_attention": sliding}.items():
        settings = rope.get(kind)
        settings = rope[kind] = dict(settings) if isinstance(settings, Mapping) else {}
        if kind in scaled:
            settings.update(scaling or {})
        theta = values.get(key)
        settings.setdefault("rope_theta", assumed[kind]["rope_theta"] if theta is None else theta)
        _standardize(settings, values if kind in _nested(values, rope) else {}, {})
    return rope


def _longrope(name: Any) -> Any:
    """Phi 3 calls its scaling by names that have other meanings elsewhere."""
    return "longrope" if name in ("su", "yarn") else name


def _without_mrope(name: Any) -> Any:
    """Qwen2-VL's rotation by time, height and width isn't a scaling; mrope_section says it."""
    return "default" if name == "mrope" else name


def _dynamic(name: Any) -> Any:
    return "dynamic" if name == "xdrope" else name


_RETYPED: Mapping[str, Callable[[Any], Any]] = {
    "phi3": _longrope,
    "qwen2_vl_text": _without_mrope,
    "qwen2_5_vl_text": _without_mrope,
    "hunyuan_vl_text": _dynamic,
}
"""How a class renames the kind of scaling."""
