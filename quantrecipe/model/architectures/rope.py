"""Rotary embeddings: config.json's spellings in one form, the GGUF's keys, and tensors of frequency factors.

    rope_parameters   config.json → {"rope_type", "rope_theta", …}, or such settings for each kind of layers:
                      {"full_attention": {…}, "sliding_attention": {…}}
    rope_pairs        that → <arch>.rope.scaling.*, .dimension_sections, .freq_base, .freq_base_swa
    …_factors         what frequencies are divided by, which the GGUF has as tensors

What names there are, what kinds of scaling, and what is written of each, follows llama.cpp's converter. What
transformers' classes assume, and how they convert older spellings, is in completion/rope_spellings.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.config import MAX_FLOAT32, Config, shown
from quantrecipe.model.pairs import Pairs, f32, i32s, text, u32

__all__ = [
    "alpha_scaled_theta",
    "full_attention",
    "llama3_factors",
    "longrope_attention_factor",
    "longrope_factors",
    "partial_factors",
    "rope_pairs",
    "rope_parameters",
    "rotated",
    "sliding_attention",
]

_OWN_CONTEXT = {"llama3", "yarn", "longrope"}
"""Kinds of scaling that start from the context length of the first training."""

_MEND = "correct it, or download it again"

_THETA = ("global_rope_theta", "rope_global_theta", "rope_theta_global", "rope_theta", "rotary_emb_base")
_LOCAL_THETA = (
    "local_rope_theta", "rope_local_theta", "rope_theta_local", "swa_rope_theta", "rope_local_base_freq",
)  # fmt: skip
_PARTIAL = ("partial_rotary_factor", "rope_pct", "rope_percent")
_ATTENTIONS = ("full_attention", "sliding_attention")

_YARN = {
    "extrapolation_factor": "yarn_ext_factor",
    "attention_factor": "yarn_attn_factor",
    "beta_fast": "yarn_beta_fast",
    "beta_slow": "yarn_beta_slow",
}
_SECTIONS = 4  # ggml: GGML_MROPE_SECTIONS


def rope_parameters(
    path: Path, values: Mapping[str, Any], default_theta: float | None = None
) -> dict[str, Any]:
    """The settings of the rotary embedding in one form: rope_type, rope_theta, and what the type needs.

    Settings for each kind of layers stay under "full_attention" and "sliding_attention". A base frequency for the
    layers with a window, in a file of an older spelling, stands under "sliding_attention" beside the others.
    `default_theta` is the base frequency where config.json gives none; with None there is none then, either.
    ModelError about `path`, the config.json, where the settings have no form that is known.
    """
    given = [_settings(path, name, values.get(name)) for name in ("rope_scaling", "rope_parameters")]
    rope = next(filter(None, given), {})
    for kind in _ATTENTIONS:
        if kind in rope:
            rope[kind] = _settings(path, kind, rope[kind])
            _name_type(path, rope[kind])
    if not any(kind in rope for kind in _ATTENTIONS):
        _complete(rope, values, default_theta)
        _name_type(path, rope)
        if rope["rope_type"] in _OWN_CONTEXT:
            if (length := values.get("original_max_position_embeddings")) is not None:
                rope["original_max_position_embeddings"] = length
            else:
                rope.setdefault("original_max_position_embeddings", values.get("max_position_embeddings"))
    return rope


def _settings(path: Path, name: str, given: Any) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        what = (
            f'says {name}: {shown(given)} (expected: an object, such as {{"rope_type": "yarn", …}}, or null)'
        )
        raise ModelError(what, _MEND, file=path)
    return dict(given or {})


def _complete(rope: dict[str, Any], values: Mapping[str, Any], default_theta: float | None) -> None:
    """Add to settings what stands beside them in config.json."""
    if (local := _first(values, _LOCAL_THETA)) is not None:
        rope["sliding_attention"] = {"rope_theta": local}
    theta = _first(values, _THETA)
    if (theta := default_theta if theta is None else theta) is not None:
        rope.setdefault("rope_theta", theta)
    if (partial := _first(values, _PARTIAL)) is not None:
        rope.setdefault("partial_rotary_factor", partial)
    if (length := values.get("original_max_position_embeddings")) is not None:
        rope.setdefault("original_max_position_embeddings", length)


def _first(values: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The value of the first of these names that is there, even if it is null."""
    return next((values[name] for name in names if name in values), None)


def _name_type(path: Path, rope: dict[str, Any]) -> None:
    rope.setdefault("rope_type", rope.get("type", "default"))
    if not isinstance(rope["rope_type"], str):
        what = f'says rope_type: {shown(rope["rope_type"])} (expected: a name such as "yarn")'
        raise ModelError(what, _MEND, file=path)


def full_attention(config: Config) -> Config:
    """Make `config.rope` the settings of layers with full attention: their own, or those of all layers."""
    return replace(config, rope=config.rope.get("full_attention", config.rope))


def sliding_attention(config: Config) -> Config | None:
    """Make `config.rope` the settings of layers with a window; None where they have none of their own."""
    rope = config.rope.get("sliding_attention")
    return None if rope is None else replace(config, rope=rope)


def rotated(config: Config, length: int, default: float = 1.0) -> int:
    """How many of a head's `length` numbers are rotated. `default` is the share where config.json gives none."""
    share = config.rope_number("partial_rotary_factor")
    return int(length * (default if share is None else share))


def rope_pairs(arch: str, config: Config) -> Pairs:
    """Make the keys of the scaling, of the sections of a multimodal rotation, and of the base frequencies."""
    pairs = _scaling_pairs(f"{arch}.rope.scaling.", full_attention(config))
    if "mrope_section" in config.rope:
        pairs[f"{arch}.rope.dimension_sections"] = i32s(_sections(config))
    if (theta := full_attention(config).rope_number("rope_theta")) is not None:
        pairs[f"{arch}.rope.freq_base"] = f32(theta)
    windowed = sliding_attention(config)
    if windowed is not None and (theta := windowed.rope_number("rope_theta")) is not None:
        pairs[f"{arch}.rope.freq_base_swa"] = f32(theta)
    return pairs


def _scaling_pairs(scaling: str, config: Config) -> Pairs:
    pairs: Pairs = {}
    kind, factor = config.rope.get("rope_type"), config.rope_number("factor")
    if kind in ("linear", "yarn") and factor is not None:
        pairs[scaling + "type"] = text(kind)
        pairs[scaling + "factor"] = f32(factor)
    if kind == "yarn" and factor is not None:
        if (length := config.rope_count("original_max_position_embeddings")) is not None:
            pairs[scaling + "original_context_length"] = u32(length)
        for name, key in _YARN.items():
            number = config.rope_number(name)
            if number is None and name == "attention_factor":
                number = config.rope_number("attn_factor")
            if number is not None:
                pairs[scaling + key] = f32(number)
    if kind in ("su", "longrope"):
        pairs[scaling + "type"] = text("longrope")
    return pairs


def _sections(config: Config) -> list[int]:
    """How many pairs of a head are rotated by time, height, width, and a fourth that few models have."""
    given = config.rope["mrope_section"]
    whole = isinstance(given, list) and all(
        isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**31 for count in given
    )
    if not whole:
        config.fail(f"says mrope_section: {shown(given)} (expected: a list of whole numbers)", _MEND)
    return [*given, *[0] * _SECTIONS][:_SECTIONS]


def llama3_factors(config: Config, head_dim: int) -> bytes | None:
    """What each frequency is divided by, float32 (head_dim / 2); None for models without Llama 3's scaling.

    Short wavelengths stay, long ones stretch by `factor`, and between them the factor is blended. All in
    float32, and in the steps in which PyTorch computes it for llama.cpp's converter: there, a number divided by
    a tensor is the tensor's reciprocal, times the number.
    """
    if str(config.rope.get("rope_type")).lower() != "llama3":
        return None
    one = np.float32(1)

    def setting(name: str, default: float) -> np.float32:
        value = config.rope_number(name)
        return np.float32(default if value is None else value)

    base, factor = setting("rope_theta", 10000.0), setting("factor", 8.0)
    low, high = setting("low_freq_factor", 1.0), setting("high_freq_factor", 4.0)
    context = setting("original_max_position_embeddings", 8192)
    # What overflows, or divides by zero, shows in the outcome. Llama 4 Scout has nothing between short and long.
    with np.errstate(all="ignore"):
        exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        powers = np.power(np.float64(base), exponents.astype(np.float64)).astype(np.float32)  # rounded once
        wavelengths = one / (one / powers) * np.float32(2 * math.pi)
        smooth = (one / wavelengths * context - low) / (high - low)
        blended = one / ((one - smooth) / factor + smooth)
        factors = np.where(wavelengths > context / low, factor, blended)
        factors = np.where(wavelengths < context / high, one, factors)
    if base <= 0 or not (np.isfinite(factors) & (factors > 0)).all():
        config.fail("has rope settings of which no frequencies can be made", _MEND)
    return factors.astype("<f4").tobytes()


def longrope_factors(config: Config, dimensions: int) -> dict[str, bytes]:
    """What frequencies are divided by beyond the first training's context, and within: two float32 tensors.

    By GGUF name, each of `dimensions` / 2, the rotated numbers of a head. Empty for models that have neither.
    ModelError where one is missing, or they have another length.
    """
    factors = {name: config.rope.get(name) for name in ("long_factor", "short_factor")}
    if not any(factors.values()):
        return {}
    for name, given in factors.items():
        if not isinstance(given, list) or len(given) != dimensions / 2 or not all(map(_is_number, given)):
            what = f"says {name}: {shown(given)} (expected: a list of {dimensions // 2} numbers, one for each pair)"
            config.fail(what, _MEND)
    return {
        f"rope_factors_{name.removesuffix('_factor')}.weight": np.array(given, "<f4").tobytes()
        for name, given in factors.items()
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_FLOAT32


def longrope_attention_factor(config: Config) -> float | None:
    """How much Phi 3's attention is scaled, since its context was made longer; None without long factors.

    The key is <arch>.rope.scaling.attn_factor, and it stands before all others, as the converter writes it along with
    the tensors. ModelError for a kind of scaling that has no such factor.
    """
    if not config.rope.get("long_factor"):
        return None
    length = config.need("n_positions", "max_position_embeddings")
    original = config.rope_count("original_max_position_embeddings")
    if not original or original == 1:
        config.fail("has no original_max_position_embeddings (expected: a whole number above 1)")
    scale, kind = length / original, str(config.rope.get("rope_type")).lower()
    if kind not in ("su", "longrope", "yarn"):
        config.fail(f"says rope_type: {shown(kind)} with long_factor (expected: longrope, su or yarn)", _MEND)
    if scale <= 1:
        return 1.0
    return (
        0.1 * math.log(scale) + 1 if kind == "yarn" else math.sqrt(1 + math.log(scale) / math.log(original))
    )


def alpha_scaled_theta(config: Config, dimensions: int, default_alpha: float) -> float:
    """The base frequency of Hunyuan's `dynamic` scaling, which is aware of alpha; `dimensions` are rotated.

    ModelError where no number comes of it.
    """
    alpha, theta = config.rope_number("alpha"), config.rope_number("rope_theta")
    alpha, theta = default_alpha if alpha is None else alpha, 10_000.0 if theta is None else theta
    try:
        scaled = theta * alpha ** (dimensions / (dimensions - 2))
    except ArithmeticError:
        scaled = math.inf
    if isinstance(scaled, complex) or not 0 < scaled <= MAX_FLOAT32:
        config.fail("has rope settings of which no frequencies can be made", _MEND)
    return float(scaled)


def partial_factors(rotated: int, length: int) -> bytes:
    """Factors for heads of which `rotated` of `length` numbers are rotated: 1 for these, 1e30 for the rest.

    float32 (length / 2). Dividing by 1e30 turns a rotation into none.
    """
    factors = np.full(length // 2, 1e30, "<f4")
    factors[: rotated // 2] = 1
    return factors.tobytes()
