"""The recipes' JSON Schema, for editors: which keys and values there are, for completion, hover texts and checking.

`schema.json` beside this file has what quantrecipe itself ships; `schema_with` has what is installed. Names of formats,
recipes and roles are proposed, and others allowed: a recipe may name what somebody else has installed, and tensors
that only its model has. What is wrong with a recipe, the loader says, not the schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from quantrecipe.packaged import packaged_table

__all__ = ["schema_text", "schema_with"]

_WIDTH = 110  # the longest line of the file, as in the source
_LAYERS = {
    "first 4": "the first four layers",
    "last 4": "the last four layers",
    "first 1/8": "the first eighth of the layers, rounded down",
    "last 1/8": "the last eighth of the layers, rounded down",
    "every 3 from 2": "layers 2, 5, 8, …",
    "0-3": "layers 0 to 3",
}
_PATTERNS = {
    "head": "the tensor that makes the logits: output, or the tied token_embd",
    "*": "every quantizable matrix",
    "attn_*": "the matrices of attention",
    "ffn_*": "the feed-forward matrices, experts too",
    "ffn_*_exps": "the routed experts",
    "ffn_*_shexp": "the shared experts",
}
_KEPT = {"keep": "as the source has it"}
_POLICIES = {
    "chain": "the format's own fallbacks, in order",
    "error": "refuse a tensor that its type doesn't accept",
}


def schema_with(
    formats: Mapping[str, str], recipes: Mapping[str, str], roles: Iterable[str]
) -> dict[str, Any]:
    """Return the schema with these names: of formats and recipes, each with a line about it, and of tensors' roles."""
    shipped = packaged_table("recipe/schema.json")
    patterns = _PATTERNS | dict.fromkeys(sorted(set(roles) - _PATTERNS.keys()), "")
    names = {
        "type": _proposed(_KEPT | dict(formats), {"$ref": "#/$defs/line"}),
        "format": _proposed(formats, {"allOf": [{"$ref": "#/$defs/line"}, {"not": {"const": "keep"}}]}),
        "fallback": _proposed(_POLICIES | dict(formats), {"$ref": "#/$defs/line"}),
        "recipe": _proposed(recipes, {"$ref": "#/$defs/text"}),
        "pattern": _proposed(patterns, {"$ref": "#/$defs/text"}),
        "layers": _proposed(_LAYERS, {"type": ["string", "integer"], "pattern": "\\S"}),
    }
    return {**shipped, "$defs": {**shipped["$defs"], **names}}


def schema_text(schema: Mapping[str, Any]) -> str:
    """Write the schema as a file: the same names give the same text, and what fits stands on one line."""
    return _laid_out(schema, 0) + "\n"


def _laid_out(value: Any, depth: int) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or len(line) + 2 * depth <= _WIDTH:
        return line
    inside = "  " * (depth + 1)
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {_laid_out(item, depth + 1)}" for key, item in value.items()]
    else:
        items = [_laid_out(item, depth + 1) for item in value]
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f"{first}\n{inside}" + f",\n{inside}".join(items) + f"\n{'  ' * depth}{last}"


def _proposed(names: Mapping[str, str], any_other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a value: anything of a kind, and names that editors propose, each with what it means."""
    known = [
        {"const": name, "description": said} if said else {"const": name} for name, said in names.items()
    ]
    return {"anyOf": [*known, dict(any_other)]}
