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

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quantrecipe.recipe.columns import MORE_BITS
from quantrecipe.recipe.quote import quoted
from quantrecipe.recipe.summarise import DraftRule

__all__ = ["write_recipe"]

_LINE = 110
_PLAIN = re.compile(r"[A-Za-z_](?:[^\s:#]| (?=[^\s#])|:(?=[^\s,\]}[{]))*")
_ENDS_A_WORD = frozenset(",[]{}")
"""Characters that mean something inside of brackets."""
_NOT_TEXTS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
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
        "extends": _one_or_list(extends),
        "requires": list(requires),
        "file_type": file_type,
        "default": default,
        "fallback": fallback,
        "importance": importance,
        **(extra or {}),
        "metadata": dict(metadata or {}),
    }
    lines = [f"# {_comment(line)}".rstrip() for line in comments]
    lines.append("quantrecipe: 1")
    for key, value in keys.items():
        if value not in (None, "", [], {}, ()):
            lines.append(f"{key}: {_flow(value)}")
    if groups:
        lines.append("groups:")
        lines += [f"  {key}: {_flow(_one_or_list(patterns))}" for key, patterns in groups.items()]
    if facts:
        lines.append("facts:")
        lines += [f"  {key}: {_flow(text)}" for key, text in facts.items()]
    if rules:
        lines.append("rules:")
        named = {text: key for key, text in facts.items()}
        for rule in rules:
            lines += _rule_lines(rule, named)
    return "\n".join(lines) + "\n"


def _rule_lines(rule: DraftRule, facts: Mapping[str, str]) -> Iterator[str]:
    for line in rule.comment.splitlines():
        yield f"  # {_comment(line)}".rstrip()
    tensors = _flow(_one_or_list(rule.tensors))
    if len(tensors) > _LINE - 12 and len(rule.tensors) > 1:
        yield "  - tensors:"
        yield from (f"      - {_flow(pattern)}" for pattern in rule.tensors)
    else:
        yield f"  - tensors: {tensors}"
    keys = {
        "layers": rule.layers,
        "when": facts.get(rule.when, rule.when) if rule.when else None,
        "type": rule.type,
        "choose": list(rule.choose),
        "options": dict(rule.options),
        "fallback": rule.fallback,
        "why": rule.why,
        "optional": rule.optional,
    }
    for key, value in keys.items():
        if value:
            yield f"    {key}: {_flow(value)}"


def _one_or_list(texts: Sequence[str]) -> str | list[str]:
    return texts[0] if len(texts) == 1 else list(texts)


def _flow(value: Any, *, inside: bool = False) -> str:
    """A value on one line. `inside`: of brackets."""
    if isinstance(value, Mapping):
        return (
            "{"
            + ", ".join(
                f"{_flow(key, inside=True)}: {_flow(item, inside=True)}" for key, item in value.items()
            )
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item, inside=True) for item in value) + "]"
    return _text(value, inside=inside) if isinstance(value, str) else json.dumps(value)


def _text(text: str, *, inside: bool) -> str:
    """A text, in quotes only where YAML would take it for something else."""
    if "\\" in text and text.isprintable():
        return "'" + text.replace("'", "''") + "'"  # regular expressions stay readable
    plain = _PLAIN.fullmatch(text) and text.isprintable() and text.lower() not in _NOT_TEXTS
    if plain and not (inside and _ENDS_A_WORD.intersection(text)):
        return text
    return quoted(text)


def _comment(line: str) -> str:
    """A line that ends nothing but itself, and holds nothing that YAML refuses even in comments."""
    return "".join(char if char.isprintable() else "?" for char in line)
