"""The language models of Qwen's models for pictures and sound: Qwen2-VL, Qwen2.5-VL, Qwen3-VL, the Omnis and the ASR.

    qwen2vl     Qwen2's frame; rotary positions of time, height and width (M-RoPE, see rope.py)
    qwen3vl     Qwen3's; n_deepstack_layers of its first layers get pictures' features, too
    qwen3vlmoe  Qwen3-MoE's, with stacks of experts whose matrices lie transposed

Omni models keep the language model under "thinker.". The towers for pictures and sound are left out here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.qwen import EXPERTS_RULES, QWEN2, QWEN3, QWEN3MOE
from quantrecipe.model.architectures.rules import Each, Found, Named, halves, language_name
from quantrecipe.model.architectures.shared.qwen_reranker import reranker_of
from quantrecipe.model.json_file import read_json_object
from quantrecipe.model.pairs import Pairs, text, u32
from quantrecipe.model.source.layout import Transpose
from quantrecipe.units import whole_number

__all__ = ["ALL"]


def _name(stored: str) -> str | None:
    return language_name(stored.replace("thinker.", ""))


QWEN2VL = replace(
    QWEN2,
    name="qwen2vl",
    classes=(
        "Qwen2VLForConditionalGeneration",
        "Qwen2VLModel",
        "Qwen2_5OmniModel",
        "Qwen2_5_VLForConditionalGeneration",
    ),
    defaults={},
    derive={},
    rename=_name,
    pairs=lambda config: {},
)


def _deepstack(config: Config) -> int:
    """How many layers get features of pictures."""
    vision: Any = config.find("vision_config")
    given = vision.get("deepstack_visual_indexes", []) if isinstance(vision, Mapping) else []
    if not isinstance(given, list):
        config.fail(f"says deepstack_visual_indexes: {given!r} (expected: a list of layers)")
    return len(given)


def _pictured(of: Architecture, name: str, count: Callable[[Config], int]) -> Callable[[Config], Pairs]:
    """The keys of a language model, and how many of its layers get features of pictures."""

    def pairs(config: Config) -> Pairs:
        own = {key.replace(of.name, name, 1): value for key, value in of.pairs(config).items()}
        return own | {f"{name}.n_deepstack_layers": u32(count(config))}

    return pairs


def _none(config: Config) -> int:
    return 0


QWEN3VL = replace(
    QWEN3,
    name="qwen3vl",
    classes=("Qwen3VLForConditionalGeneration",),
    defaults={},
    derive={},
    rename=_name,
    pairs=_pictured(QWEN3, "qwen3vl", _deepstack),
)


def _apart(it: Found) -> Iterator[Named]:
    stem = it.name.removesuffix(".weight").removesuffix("gate_up_proj")
    gate, up = halves(Transpose(source=it.source))
    yield f"{stem}gate_proj.weight", gate
    yield f"{stem}up_proj.weight", up


def _turned(it: Found) -> Iterator[Named]:
    yield it.name.removesuffix(".weight") + ".weight", Transpose(source=it.source)


_EXPERTS = "model.layers.{layer}.mlp.experts."
_TRANSPOSED = (
    Each(names=_EXPERTS + "gate_up_proj", make=_apart),
    Each(names=_EXPERTS + "gate_up_proj.weight", make=_apart),
    Each(names=_EXPERTS + "down_proj", make=_turned),
    Each(names=_EXPERTS + "down_proj.weight", make=_turned),
)

QWEN3VLMOE = replace(
    QWEN3MOE,
    name="qwen3vlmoe",
    classes=("Qwen3VLMoeForConditionalGeneration",),
    defaults={},
    derive={},
    rename=_name,
    rules=(*_TRANSPOSED, *EXPERTS_RULES),
    pairs=_pictured(QWEN3MOE, "qwen3vlmoe", _deepstack),
)


def _answering(config: Config, pairs: Pairs) -> Pairs:
    """A text begins and ends with "<|im_end|>", whatever the tokenizer's files say."""
    file = config.folder / "tokenizer_config.json"
    added = read_json_object(file).get("added_tokens_decoder") if file.is_file() else None
    for number, token in added.items() if isinstance(added, dict) else ():
        place = whole_number(number)
        if isinstance(token, dict) and token.get("content") == "<|im_end|>" and place is not None:
            ends = {name: u32(place) for name in ("bos", "eos")}
            return pairs | {f"tokenizer.ggml.{name}_token_id": value for name, value in ends.items()}
    return pairs


_CHAT = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' "
    "+ '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML, in the place of a template that makes no chat."""


def _listening(config: Config, pairs: Pairs) -> Pairs:
    return _answering(config, pairs | {"tokenizer.chat_template": text(_CHAT)})


QWEN3OMNI = replace(
    QWEN3VLMOE,
    classes=("Qwen3OmniMoeForConditionalGeneration",),
    pairs=_pictured(QWEN3MOE, "qwen3vlmoe", _none),
    tokenizer=_answering,
)

QWEN3ASR = replace(
    QWEN3VL,
    classes=("Qwen3ASRForConditionalGeneration",),
    pairs=_pictured(QWEN3, "qwen3vl", _none),
    tokenizer=_listening,
)

ALL = (QWEN2VL, reranker_of(QWEN3VL), QWEN3VL, QWEN3VLMOE, QWEN3OMNI, QWEN3ASR)
