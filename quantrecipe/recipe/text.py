"""A recipe as one text, parents flattened in, and the digest of what it means.

The text is recorded in the files that the recipe makes. It loads again, on any machine, to a recipe that
means the same: `load_recipe_text(recipe.text).digest == recipe.digest`, as long as the formats are there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import PurePosixPath
from typing import Any

import xxhash

from quantrecipe.recipe.expression import Expression
from quantrecipe.recipe.metadata import write_metadata
from quantrecipe.recipe.parse import IF_TRUE
from quantrecipe.recipe.pattern import Pattern
from quantrecipe.recipe.quote import quoted as _quote
from quantrecipe.recipe.recipe import (
    Budget,
    ImportanceSource,
    KeepEntry,
    Origin,
    Recipe,
    Rule,
    Target,
    VramBudget,
)

__all__ = [
    "budget_keys",
    "label_text",
    "plain",
    "recipe_digest",
    "recipe_text",
    "target_keys",
    "written_budget",
]

_BYTES_FROM = 1_000_000  # below, units.py reads a number without a unit as something else


def recipe_text(recipe: Recipe, importance_file: str | None = None) -> str:
    """The flattened recipe as YAML.

    Each rule's origin stands in a comment, without folders. Inherited rules are marked: they may lie idle. The
    importance matrix stands as the recipe wrote it (`importance_file`).
    """
    lines = [
        f"# {recipe.name}, with its parents merged in",
        "quantrecipe: 1",
        f"name: {_quote(recipe.name)}",
    ]
    if recipe.summary:
        lines.append(f"summary: {_quote(recipe.summary)}")
    if recipe.requires:
        lines.append(f"requires: {_flow(list(recipe.requires))}")
    if recipe.target:
        lines.append(f"target: {_flow(target_keys(recipe.target))}")
    if recipe.file_type:
        lines.append(f"file_type: {label_text(recipe)}")
    if recipe.default:
        lines.append(f"default: {recipe.default}")
    lines.append(f"fallback: {recipe.fallback}")
    lines += _importance_lines(recipe.importance, importance_file)
    if recipe.budget:
        lines.append(f"budget: {_flow(written_budget(recipe.budget))}")
    if recipe.prune:
        lines.append(f"prune: {_quote(str(recipe.prune))}")
    if recipe.metadata:
        lines.append("metadata:")
        lines += [
            f"  {_quote(key)}: {_flow(write_metadata(value))}" for key, value in recipe.metadata.items()
        ]
    if recipe.rules:
        lines.append("rules:")
        for rule in recipe.rules:
            lines += _rule_lines(rule)
    # By its former name: a file that is made again has the same bytes as before.
    lines.append("keep:" if recipe.keep else "keep: []")
    for entry in recipe.keep:
        lines += _keep_lines(entry)
    return "\n".join(lines) + "\n"


def label_text(recipe: Recipe) -> str | None:
    """What the key file_type says of a recipe with its parents merged in."""
    if recipe.file_type is None or recipe.file_type_fixed:
        return recipe.file_type
    return f"{recipe.file_type}{IF_TRUE}"


def recipe_digest(recipe: Recipe) -> str:
    """XXH3-128, in hex, of all that can change the output: no names, reasons, comments, layout or paths."""
    meaning: dict[str, Any] = {
        "quantrecipe": 1,
        "default": recipe.default,
        "fallback": recipe.fallback,
        "file_type": recipe.file_type,
        "importance": [recipe.importance.uncovered, _required(recipe.importance)],
        "metadata": {key: [int(value.type), value.payload.hex()] for key, value in recipe.metadata.items()},
        "rules": [
            {
                "tensors": _texts(rule.tensors),
                "layers": str(rule.layers) if rule.layers else None,
                "when": _canonical(rule.when),
                "type": rule.type,
                "options": plain(rule.options),
                "fallback": rule.fallback,
            }
            for rule in recipe.rules
        ],
        "keep": [{"tensors": _texts(entry.tensors), "when": _canonical(entry.when)} for entry in recipe.keep],
    }
    # Keys that came later are there only where they are used, so that older digests stay.
    if not recipe.file_type_fixed:
        meaning["file_type"] = label_text(recipe)
    if recipe.prune:
        meaning["prune"] = str(recipe.prune)
    if recipe.importance.include or recipe.importance.exclude:
        meaning["selected"] = [recipe.importance.include, recipe.importance.exclude]
    if any(rule.choose for rule in recipe.rules):
        meaning["choose"] = [rule.choose for rule in recipe.rules]
        meaning["budget"] = budget_keys(recipe.budget) if recipe.budget else None
        meaning["target"] = target_keys(recipe.target) if recipe.target else None
    canonical = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(canonical.encode("ascii"))


def target_keys(target: Target) -> dict[str, Any]:
    """The target as a recipe says it."""
    said = {"engine": target.engine, "build": target.build, "device": target.device}
    return {key: value for key, value in said.items() if value is not None}


def budget_keys(budget: Budget) -> dict[str, Any]:
    """The budget as a recipe says it, sizes in bytes."""
    said: dict[str, Any] = {
        "size": budget.size,
        "bpw": budget.bpw,
        "vram": None if budget.vram is None else _vram_keys(budget.vram),
        "ram": budget.ram,
        "active": budget.active,
        "ties": [_texts(tie) for tie in budget.ties] or None,
    }
    return {key: value for key, value in said.items() if value is not None}


def written_budget(budget: Budget) -> dict[str, Any]:
    """The same to be read again: a size of few bytes says that it is in bytes."""
    said = budget_keys(budget)
    small = {key: f"{it}B" for key in ("size", "active") if (it := said.get(key, _BYTES_FROM)) < _BYTES_FROM}
    return said | small


def _vram_keys(vram: VramBudget) -> dict[str, Any]:
    said = {field.name: getattr(vram, field.name) for field in fields(vram)}
    return {key: value for key, value in said.items() if value is not None}


def _importance_lines(importance: ImportanceSource, file: str | None) -> list[str]:
    keys: dict[str, Any] = {} if file is None else {"file": file}
    keys |= {"uncovered": importance.uncovered, "required": _required(importance)}
    if importance.include:
        keys["include"] = list(importance.include)
    if importance.exclude:
        keys["exclude"] = list(importance.exclude)
    return [f"importance: {_flow(keys)}"]


def _required(importance: ImportanceSource) -> bool | list[str]:
    return list(importance.required_for) or importance.required


def _rule_lines(rule: Rule) -> Iterator[str]:
    yield f"  # {_place(rule.origin)}"
    yield f"  - tensors: {_flow(_texts(rule.tensors))}"
    if rule.layers:
        yield f"    layers: {_quote(str(rule.layers))}"
    if rule.when:
        yield f"    when: {_quote(rule.when.written_out)}"
    yield f"    choose: {_flow(list(rule.choose))}" if rule.choose else f"    type: {rule.type}"
    if rule.options:
        yield f"    options: {_flow(plain(rule.options))}"
    if rule.fallback:
        yield f"    fallback: {rule.fallback}"
    if rule.why:
        yield f"    why: {_quote(rule.why)}"
    if rule.optional:
        yield "    optional: true"
    if not rule.own:
        yield "    inherited: true"


def _keep_lines(entry: KeepEntry) -> Iterator[str]:
    yield f"  # {_place(entry.origin)}"
    yield f"  - tensors: {_flow(_texts(entry.tensors))}"
    if entry.when:
        yield f"    when: {_quote(entry.when.written_out)}"
    if entry.why:
        yield f"    why: {_quote(entry.why)}"


def _place(origin: Origin) -> str:
    """The origin without the folders of the machine where the recipe was loaded; shipped recipes keep their names."""
    path = PurePosixPath(origin.file)
    is_path = path.suffix in (".yaml", ".yml") or path.is_absolute() or ".." in path.parts
    name = path.name if is_path else origin.file
    return f"{''.join(char if char.isprintable() else '?' for char in name)}:{origin.line}"


def _canonical(when: Expression | None) -> str | None:
    return when.canonical if when else None


def _texts(patterns: tuple[Pattern, ...]) -> list[str]:
    return [str(pattern) for pattern in patterns]


def plain(value: Any) -> Any:
    """Options as plain data."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def _flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quote(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return _quote(value)
    return json.dumps(value)
