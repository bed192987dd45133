"""Mistral's models after Mixtral: Mistral Small 3.1 and 3.2, Magistral, Devstral, and Ministral 3.

llama.cpp calls them all mistral3. It is a llama; in Ministral 3, rotary scaling is YaRN, and the scale of attention
grows with the length of the text. What reads pictures is left out. Mistral 7B and Mixtral are in llama.py.
"""

from __future__ import annotations

from dataclasses import replace

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import rope_dimensions
from quantrecipe.model.architectures.llama import LLAMA
from quantrecipe.model.pairs import Pairs, f32

__all__ = ["ALL"]

_KIND = "ministral3"
_SETTINGS = {
    "mscale_all_dim": "rope.scaling.yarn_log_multiplier",
    "llama_4_scaling_beta": "attention.temperature_scale",
}
"""Settings of Ministral 3's rotary embedding → keys."""


def _pairs(config: Config) -> Pairs:
    pairs = rope_dimensions("mistral3", config)
    if config.find("model_type") == _KIND:
        for name, key in _SETTINGS.items():
            number = config.rope_number(name)
            if number is None:
                config.fail(f"has no {name} among its rope_parameters (expected: a number)")
            pairs[f"mistral3.{key}"] = f32(number)
    return pairs


def _refuse(config: Config) -> str | None:
    kind = config.rope.get("rope_type")
    if config.find("model_type") == _KIND and kind != "yarn":
        return f"has the rope_type {str(kind)[:40]!r} (what llama.cpp has for ministral3: yarn)"
    return None


MISTRAL3 = replace(
    LLAMA,
    name="mistral3",
    classes=("Ministral3ForCausalLM", "Mistral3ForConditionalGeneration"),
    applies=lambda config: config.find("model_type") != "mistral4",
    defaults={},
    pairs=_pairs,
    refuse=_refuse,
)

ALL = (MISTRAL3,)
