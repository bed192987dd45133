"""A list that names the tensors of a model one by one, held against the model: the rules that its types are.

The rules are those that `recover` finds for a GGUF with the same types.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from quantrecipe.exchange.assemble import Parts, decided_by_rule
from quantrecipe.exchange.from_commands.named_list import FirstMatch, reason_of
from quantrecipe.exchange.from_commands.overrides import Override, TypeName, checked_types
from quantrecipe.exchange.source import Source
from quantrecipe.plan.assign import FLOATS
from quantrecipe.wording import some_of

__all__ = ["ListOnModel", "deciding_lines"]

_MOST_NAMES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ListOnModel:
    """A list, and what it says of each tensor of a model.

    types: our types, by how the list writes them
    lines: the number of the line that decides, by the tensor's name
    """

    overrides: Sequence[Override]
    source: Source
    types: Mapping[str, TypeName]
    lines: Mapping[str, int]

    @classmethod
    def of(cls, overrides: Sequence[Override], source: Source, file: str) -> ListOnModel:
        """Hold a list against a model. RecipeError has every line whose type or expression isn't understood."""
        types = checked_types(overrides, source.registry, file)
        lines = deciding_lines(overrides, source.reached)
        return cls(overrides=overrides, source=source, types=types, lines=lines)

    @property
    def asked(self) -> dict[str, str]:
        """The type that the list gives each tensor that it names."""
        return {name: self.types[self.overrides[line].type].name for name, line in self.lines.items()}

    def packages(self, used: Collection[str]) -> set[str]:
        """Return the packages that those of its types need that are used."""
        return {it.package for it in self.types.values() if it.package and it.name in used}

    @property
    def changed(self) -> list[str]:
        """Notes on types that another one stands for."""
        return list(dict.fromkeys(it.note for it in self.types.values() if it.note))

    def unused(self, tool: str) -> list[str]:
        """Return notes on the lines that decide nothing: they name what stays as it is, or nothing, or come late."""
        used = set(self.lines.values())
        first = FirstMatch([it.regex for it in self.overrides])
        names = (tensor.name for tensor in self.source.tensors)
        others = {number for name in names if (number := first.find(name)) is not None} - used
        idle = [number for number in range(len(self.overrides)) if number not in used]
        never = [n for n in idle if n in others and self.types[self.overrides[n].type].name not in FLOATS]
        nothing = [n for n in idle if n not in others]
        notes = []
        if never:
            notes.append(f"{tool} never quantizes what is named by {self._shown(never)}: left out")
        if nothing:
            what = "names no tensor of this model, or comes too late"
            notes.append(f"{self._shown(nothing)} {what}: left out")
        return notes

    def with_reasons(self, parts: Parts) -> Parts:
        """Return the parts with the comments of the lines as reasons of the rules that these became."""
        decided = decided_by_rule(parts, self.source)
        if decided is None:
            decided = [frozenset()] * len(parts.rules)
        rules = []
        for rule, names in zip(parts.rules, decided, strict=True):
            numbers = sorted({self.lines[name] for name in names if name in self.lines})
            found = reason_of([self.overrides[n] for n in numbers]) if numbers else "as in the list"
            rules.append(replace(rule, why=rule.why or found))
        return replace(parts, rules=tuple(rules))

    def _shown(self, numbers: Sequence[int]) -> str:
        texts = [f"{self.overrides[n].regex}={self.overrides[n].type}" for n in numbers]
        return some_of(texts, _MOST_NAMES, "more lines")


def deciding_lines(overrides: Sequence[Override], reached: Collection[str]) -> dict[str, int]:
    """Return the number of the line that decides each tensor: the first that is found in its name."""
    first = FirstMatch([it.regex for it in overrides])
    return {name: number for name in sorted(reached) if (number := first.find(name)) is not None}
