"""A list that names the tensors of a model one by one, held against the model: the rules that its types are.

The rules are those that `recover` finds for a GGUF with the same types.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from quantrecipe.exchange.assemble import Parts, decided_by_rule
from quantrecipe.exchange.named_list import FirstMatch, reason_of
from quantrecipe.exchange.overrides import Override, TypeName
from quantrecipe.exchange.source import Source
from quantrecipe.plan.assign import FLOATS
from quantrecipe.wording import some_of

__all__ = ["deciding_lines", "unused_lines", "with_reasons"]

_MOST_NAMES = 3


def deciding_lines(overrides: Sequence[Override], reached: Collection[str]) -> dict[str, int]:
    """Return the number of the line that decides each tensor: the first that is found in its name."""
    first = FirstMatch([it.regex for it in overrides])
    return {name: number for name in sorted(reached) if (number := first.find(name)) is not None}


def unused_lines(
    overrides: Sequence[Override],
    types: Mapping[str, TypeName],
    lines: Mapping[str, int],
    source: Source,
    *,
    tool: str,
) -> list[str]:
    """Return notes on the lines that decide nothing: they name nothing, or what stays as it is, or come too late."""
    used = set(lines.values())
    first = FirstMatch([it.regex for it in overrides])
    others = {number for tensor in source.tensors if (number := first.find(tensor.name)) is not None} - used
    idle = [number for number in range(len(overrides)) if number not in used]
    never = [n for n in idle if n in others and types[overrides[n].type].name not in FLOATS]
    nothing = [n for n in idle if n not in others]
    notes = []
    if never:
        notes.append(f"{tool} never quantizes what is named by {_shown(never, overrides)}: left out")
    if nothing:
        what = "names no tensor of this model, or comes too late"
        notes.append(f"{_shown(nothing, overrides)} {what}: left out")
    return notes


def with_reasons(
    parts: Parts,
    overrides: Sequence[Override],
    lines: Mapping[str, int],
    source: Source,
) -> Parts:
    """Return the parts with the comments of the lines as reasons of the rules that these became."""
    decided = decided_by_rule(parts, source)
    if decided is None:
        decided = [frozenset()] * len(parts.rules)
    rules = []
    for rule, names in zip(parts.rules, decided, strict=True):
        numbers = sorted({lines[name] for name in names if name in lines})
        why = rule.why or (reason_of([overrides[n] for n in numbers]) if numbers else "as in the list")
        rules.append(replace(rule, why=why))
    return replace(parts, rules=tuple(rules))


def _shown(numbers: Sequence[int], overrides: Sequence[Override]) -> str:
    texts = [f"{overrides[n].regex}={overrides[n].type}" for n in numbers]
    return some_of(texts, _MOST_NAMES, "more lines")
