"""complete: what llama.cpp's converter sees of a config.json, which leaves out what transformers assumes.

    1. defaults          of the class that `model_type` names: defaults.json; so do the parts within (text_config, …)
    2. rotary settings   older spellings become `rope_parameters`: rope_spellings.py
    3. derived values    head_dim, layer_types, …: derived.py
    4. the language model's part moves to the root, whose other keys stay

What config.json says stays under its own name; where the class has another name for it, it is there twice. Only
rope_scaling moves, into rope_parameters. Some classes rename kinds of layers, or drop keys that the converter reads;
this isn't followed. A model type that the table doesn't have is of a class that came with a model. It gets step 4 only,
as the converter can't ask such a class either.

A line of defaults.json has, each where there is something to say:

    values   key → the class's default; null isn't written
    aliases  another name → the name that the class has
    rope     the rotary settings that are assumed; "alone" where nothing is given, "beside" a scaling that is
    fills    names of rules in rules.FILLS
    parts    key → model_type of the part; "fixed" where the part's own model_type doesn't count, "optional"
             where null stays null, "values" of a part that isn't there
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantrecipe.model.architectures.completion.derived import DERIVED
from quantrecipe.model.architectures.completion.rope_spellings import rope_settings
from quantrecipe.model.architectures.completion.rules import FILLS, derive
from quantrecipe.packaged import packaged_table

__all__ = ["complete", "completed", "known_model_types"]

_TABLE = "model/architectures/defaults.json"
_LANGUAGE_PARTS = ("llm_config", "lm_config", "thinker_config", "language_config", "lfm")
"""Where models of other classes keep what text_config says elsewhere. The last that is there counts."""
_FLAT = frozenset({"glm5_next", "hunyuan_vl", "paddleocr_vl", "qwen2_5_vl", "qwen2_vl"})
"""Model types of which older files have the language model's keys at the root."""
_STAYS = {"hunyuan_vl": {"partial_rotary_factor"}, "paddleocr_vl": {"partial_rotary_factor"}}
"""What their language model doesn't take from the root."""
_WITH_VALUES = frozenset({"glmasr", "voxtral"})
"""Model types of which a part that is there is completed by the root's values for it, too."""
_RENAMED = {"exaone4_5_text": "exaone4", "kimi_k2": "deepseek_v3"}
"""A part's model type in older files → the class that reads it."""
_MAX_DEPTH = 4
"""Parts within parts: Qwen3-Omni has the thinker, and the text within it."""


def known_model_types() -> frozenset[str]:
    """The model types whose defaults are known."""
    return frozenset(packaged_table(_TABLE)["model_types"])


def complete(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the converter reads hyper-parameters from, of config.json's content.

    `values` isn't changed. Values of a wrong kind stay as they are, for those that ask for them to refuse.
    """
    alternating = values.get("model_type") == "mistral" and "layer_types" in values
    whole = completed(values, "ministral" if alternating else None)
    for name in _LANGUAGE_PARTS:
        if name in whole:
            part = whole[name]
            whole["text_config"] = (
                part.get("text_config") if name == "thinker_config" and isinstance(part, Mapping) else part
            )
    text = whole.get("text_config")
    return {**whole, **text} if isinstance(text, Mapping) else whole


def completed(values: Mapping[str, Any], kind: Any = None, depth: int = 0) -> dict[str, Any]:
    """The same without the last step: the language model's part stays in its place.

    `kind` is the model type to go by, where it isn't config.json's own.
    """
    found = dict(values)
    kind = values.get("model_type") if kind is None else kind
    table = packaged_table(_TABLE)["model_types"]
    if not isinstance(kind, str) or kind not in table or depth > _MAX_DEPTH:
        return found
    assumed = table[kind]
    for alias, name in assumed.get("aliases", {}).items():
        if alias in values and name not in values:
            found[name] = values[alias]
    for key, value in assumed.get("values", {}).items():
        found.setdefault(key, value)
    for key, part in assumed.get("parts", {}).items():
        if (made := _part(kind, key, part, values, depth)) is not None:
            found[key] = made
    rules = (*(FILLS[name] for name in assumed.get("fills", ())), *DERIVED.get(kind, ()))
    derive(found, rules)
    if "rope" in assumed:
        rope = rope_settings(kind, found, assumed["rope"])
        if rope is not None:
            found["rope_parameters"] = rope
            found.pop("rope_scaling", None)
    return found


def _part(kind: str, key: str, assumed: Mapping[str, Any], values: Mapping[str, Any], depth: int) -> Any:
    """A part within, such as text_config, completed by its own class; None where there is none."""
    given = values.get(key)
    if isinstance(given, Mapping) and kind in _WITH_VALUES:
        given = {**assumed.get("values", {}), **given}
    if given is None and assumed.get("optional"):
        return None
    if given is None and key == "text_config" and kind in _FLAT:
        line = packaged_table(_TABLE)["model_types"][kind]
        root = {"model_type", *line["values"], *line["parts"]} | _STAYS.get(kind, set())
        given = {name: value for name, value in values.items() if name not in root}
    elif given is None:
        given = assumed.get("values", {})
    if not isinstance(given, Mapping):
        return given
    own = given.get("model_type")
    own = _RENAMED.get(own, own) if isinstance(own, str) else None
    of = assumed["model_type"] if assumed.get("fixed") or own is None else own
    return {"model_type": of} | completed(given, of, depth + 1)
