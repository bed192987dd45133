"""Mistral's models after Mixtral: Mistral Small 3.1 to 4, Magistral, Devstral, and Ministral 3.

    mistral3  a llama; in Ministral 3, rotary scaling is YaRN, and attention's scale grows with the length of the text
    mistral4  Mistral Small 4: DeepSeek's latent attention; of the experts, gate and up stay one matrix

Both go by the same class, and model_type tells them apart. What reads pictures is left out. Mistral 7B and Mixtral are
in llama.py.
"""

from __future__ import annotations

from dataclasses import replace

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.deepseek import DEEPSEEK2, TRUNK, deepseek2_pairs, yarn_pairs
from quantrecipe.model.architectures.families.llama import LLAMA
from quantrecipe.model.architectures.hyperparameters import rope_dimensions
from quantrecipe.model.architectures.layout import EXPERTS as ROUTED
from quantrecipe.model.architectures.layout import HEAD, Layout, Shapes, layers
from quantrecipe.model.architectures.rules import rename
from quantrecipe.model.architectures.shared.experts import BIAS, SHARED, dense_then_experts
from quantrecipe.model.architectures.shared.latent_attention import LATENT, SPLIT, queries
from quantrecipe.model.pairs import Pairs, f32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_CLASSES = ("Ministral3ForCausalLM", "Mistral3ForConditionalGeneration")
_KIND, _LATENT_KIND = "ministral3", "mistral4"
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
    classes=_CLASSES,
    applies=lambda config: config.find("model_type") != _LATENT_KIND,
    defaults={},
    pairs=_pairs,
    refuse=_refuse,
)

_EXPERTS = "model.layers.{layer}.mlp.experts.{matrix:gate_up_proj|down_proj}"
_FUSED: Shapes = {
    name: shape for name, shape in (ROUTED | SHARED).items() if "_gate_exps" not in name
} | layers({"ffn_gate_up_exps.weight": ("num_experts", "2 · moe_intermediate_size", "hidden_size")})
_FUSED.pop("blk.{layer}.ffn_up_exps.weight")

MISTRAL4 = replace(
    DEEPSEEK2,
    name="mistral4",
    classes=_CLASSES,
    applies=lambda config: config.find("model_type") == _LATENT_KIND,
    layout=Layout(
        required=TRUNK | LATENT,
        optional=HEAD,
        parts=(*queries(), *dense_then_experts(BIAS, required=_FUSED)),
    ),
    rules=(SPLIT, rename(_EXPERTS, _EXPERTS.replace(":gate_up_proj|down_proj", "") + ".weight")),
    pairs=lambda config: deepseek2_pairs("mistral4", config) | yarn_pairs("mistral4", config),
    vocabulary=Vocabulary(kinds=("bpe",), pre=("tekken",)),
)

ALL = (MISTRAL3, MISTRAL4)
