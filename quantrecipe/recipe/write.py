"""write_recipe: a recipe as the YAML that a person would have written; it loads back to what was put in.

    # yaml-language-server: …
    quantrecipe: 1
    name: mine
    extends: llama.cpp/Q4_K_M
    rules:
      - tensors: [head, "attn_{k,v}"]
        type: Q8_0
        why: small, and used by every token

`recipe.text` writes whole recipes for machines, parents flattened in; this writes new ones for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quantrecipe.recipe.columns import MORE_BITS
from quantrecipe.recipe.quote import comment, flow, item_lines, one_or_list
from quantrecipe.recipe.summarise import DraftRule

__all__ = ["write_recipe"]

_FACTS = {"more_bits": MORE_BITS}
"""Expressions that get a name where a rule uses them."""


def write_recipe(
    *,
    name: str,
    rules: Sequence[DraftRule],
    summary: str = "",
    extends: Sequence[str] = (),
    requires: Sequence[str] = (),
    default: str | None = None,
    file_type: str | None = None,
    fallback: str | None = None,
    importance: str | Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    extra: Mapping[str, Any] | None = None,
    comments: Sequence[str] = (),
) -> str:
    """The YAML. None and empty values are left out.

    comments: lines above everything, without their `#`
    extra:    further keys of the language as plain data, such as a target or a budget
    """
    facts = {key: text for key, text in _FACTS.items() if any(rule.when == text for rule in rules)}
    keys: dict[str, Any] = {
        "name": name,
        "summary": summary,
        "extends": one_or_list(extends),
        "requires": list(requires),
        "file_type": file_type,
        "default": default,
        "fallback": fallback,
        "importance": importance,
        **(extra or {}),
        "metadata": dict(metadata or {}),
    }
    lines = [f"# {comment(line)}".rstrip() for line in comments]
    lines.append("quantrecipe: 1")
    for key, value in keys.items():
        if value not in (None, "", [], {}, ()):
            lines.append(f"{key}: {flow(value)}")
    if groups:
        lines.append("groups:")
        lines += [f"  {key}: {flow(one_or_list(patterns))}" for key, patterns in groups.items()]
    if facts:
        lines.append("facts:")
        lines += [f"  {key}: {flow(text)}" for key, text in facts.items()]
    if rules:
        lines.append("rules:")
        named = {text: key for key, text in facts.items()}
        for rule in rules:
            lines += _rule_lines(rule, named)
    return "\n".join(lines) + "\n"


def _rule_lines(rule: DraftRule, facts: Mapping[str, str]) -> Iterator[str]:
    for line in rule.comment.splitlines():
        yield f"  # {comment(line)}".rstrip()
    yield from item_lines(
        {
            "tensors": one_or_list(rule.tensors),
            "layers": rule.layers,
            "when": facts.get(rule.when, rule.when) if rule.when else None,
            "type": rule.type,
            "choose": list(rule.choose),
            "options": dict(rule.options),
            "fallback": rule.fallback,
            "why": rule.why,
            "optional": rule.optional,
        }
    )
