"""Rotary embeddings: config.json's many spellings, the GGUF's keys, and Llama 3's frequency factors.

`rope_theta` and `rope_scaling` of older files become one `rope_parameters`, as transformers 5 does. What kinds
of scaling there are, and what is written of each, follows llama.cpp's converter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.pairs import Pairs, f32, text, u32

__all__ = ["llama3_factors", "rope_pairs", "rope_parameters"]

_OWN_CONTEXT = {"llama3", "yarn", "longrope"}
"""Kinds of scaling that start from the context length of the first training."""

_MEND = "correct it, or download it again"

_YARN = {
    "extrapolation_factor": "yarn_ext_factor",
    "attention_factor": "yarn_attn_factor",
    "beta_fast": "yarn_beta_fast",
    "beta_slow": "yarn_beta_slow",
}


def rope_parameters(path: Path, values: Mapping[str, Any], default_theta: float | None) -> dict[str, Any]:
    """The settings of the rotary embedding in one form: rope_type, rope_theta, and what the type needs.

    ModelError about `path`, the config.json, where they have no form that is known.
    """
    rope = next(
        filter(None, (_settings(path, values, name) for name in ("rope_scaling", "rope_parameters"))), {}
    )
    theta = values.get("rope_theta")
    rope.setdefault("rope_theta", default_theta if theta is None else theta)
    rope.setdefault("rope_type", rope.get("type", "default"))
    if not isinstance(rope["rope_type"], str):
        what = f'says rope_type: {shown(rope["rope_type"])} (expected: a name such as "yarn")'
        raise ModelError(what, _MEND, file=path)
    if rope["rope_type"] in _OWN_CONTEXT:
        if (length := values.get("original_max_position_embeddings")) is not None:
            rope["original_max_position_embeddings"] = length
        else:
            rope.setdefault("original_max_position_embeddings", values.get("max_position_embeddings"))
    return rope


def _settings(path: Path, values: Mapping[str, Any], name: str) -> dict[str, Any]:
    given = values.get(name)
    if given is not None and not isinstance(given, Mapping):
        what = (
            f'says {name}: {shown(given)} (expected: an object, such as {{"rope_type": "yarn", …}}, or null)'
        )
        raise ModelError(what, _MEND, file=path)
    return dict(given or {})


def rope_pairs(arch: str, config: Config) -> Pairs:
    """Make the keys of the scaling and of the base frequency."""
    pairs: Pairs = {}
    scaling = f"{arch}.rope.scaling."
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
    if (theta := config.rope_number("rope_theta")) is not None:
        pairs[f"{arch}.rope.freq_base"] = f32(theta)
    return pairs


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
    if high == low:
        config.fail("has equal low_freq_factor and high_freq_factor, so no blend between them is defined")
    with np.errstate(all="ignore"):  # what overflows, or divides by zero, shows in the outcome
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
