"""write_recipe: what a program says becomes the YAML that a person would have written, and loads to the same recipe.

    # yaml-language-server: …
    quantrecipe: 1
    name: mine
    extends: llama.cpp/Q4_K_M
    rules:
      - tensors: [head, "attn_{k,v}"]
        type: Q8_0
        why: small, and used by every token

`flatten` writes whole recipes, parents merged in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from quantrecipe.recipe.metadata import write_metadata
from quantrecipe.recipe.reading.recipe_part import RecipePart
from quantrecipe.recipe.recipe import IF_TRUE, Origin
from quantrecipe.recipe.target import target_keys
from quantrecipe.recipe.writing.flatten import encoder_keys, named_facts, rule_keys
from quantrecipe.recipe.writing.recipe_yaml import one_or_list, recipe_yaml

__all__ = ["write_recipe"]


def write_recipe(part: RecipePart, comments: Sequence[str] = ()) -> tuple[str, RecipePart]:
    """Return the YAML, and the part with the places that its rules and its default have there.

    comments: lines above everything, without their `#`
    """
    facts = {name: fact for rule in part.rules for name, fact in named_facts(rule.when)}
    keys: dict[str, Any] = {
        "name": part.name,
        "summary": part.summary,
        "extends": one_or_list([parent.ref for parent in part.extends]),
        "requires": list(part.requires),
        "file_type": part.file_type and part.file_type + ("" if part.file_type_fixed else IF_TRUE),
        "default": part.default,
        "fallback": part.fallback,
        "importance": "required" if part.importance == {"required": True} else part.importance,
        "encoder": encoder_keys(part.encoder),
        "target": target_keys(part.target) if part.target else None,
        "prune": str(part.prune) if part.prune else None,
        "metadata": {key: write_metadata(value, shortest=True) for key, value in part.metadata.items()},
        "facts": {name: fact.text for name, fact in facts.items()},
        "rules": [
            {"tensors": one_or_list([str(it) for it in rule.tensors]), **rule_keys(rule, str)}
            for rule in part.rules
        ],
    }
    text, lines = recipe_yaml(keys, above=comments, blocks=("facts",))
    rules = zip(part.rules, lines.get("rules", ()), strict=True)
    placed = tuple(replace(rule, origin=Origin(file=part.file, line=line)) for rule, line in rules)
    default = Origin(file=part.file, line=lines["default"][0]) if part.default else None
    return text, replace(part, rules=placed, default_origin=default)
