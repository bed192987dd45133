"""A recipe flattened for people: all that it extends merged in, and beside each rule where it comes from.

    # llama.cpp@b11312/mixture:8, by extends in recipes/code-model.yaml:5 → llama.cpp@b11312/Q4_K_M:6
    - tensors: ["*attn_q_{a,b}*", nextn.eh_proj]
      when: arch == 'glm5-next'
      type: Q8_0

Variables are filled in. Groups and facts keep their names where one name means one thing in the whole recipe; else
they are written out. The text loads again, to the same meaning. `recipe.text` writes the same for machines.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from quantrecipe.recipe.expression import Expression
from quantrecipe.recipe.metadata import write_metadata
from quantrecipe.recipe.pattern import GROUP, Pattern
from quantrecipe.recipe.quote import comment, flow, item_lines, one_or_list
from quantrecipe.recipe.recipe import ImportanceSource, KeepEntry, Recipe, Rule
from quantrecipe.recipe.text import label_text, plain, target_keys, written_budget

__all__ = ["flat_recipe", "flat_text", "written_patterns"]


def flat_text(recipe: Recipe) -> str:
    """The YAML."""
    flat = flat_recipe(recipe)
    lines = [
        f"# {comment(recipe.file)}, with all that it extends; the first rule that matches a tensor decides"
    ]
    lines += [f"# ${name} is {comment(str(it['value']))}{_set(it)}" for name, it in flat["variables"].items()]
    lines.append("quantrecipe: 1")
    for key in ("name", "summary", "requires", "target", "file_type"):
        lines += _line(key, flat[key])
    default = f"  # {comment(str(recipe.default_origin))}" if recipe.default and recipe.default_origin else ""
    lines += [f"{line}{default}" for line in _line("default", flat["default"])]
    for key in ("fallback", "importance", "budget", "prune"):
        lines += _line(key, flat[key])
    for key in ("metadata", "groups", "facts"):
        lines += _block(key, flat[key])
    lines += _items("rules", flat["rules"])
    lines += _items("protect", flat["keep"]) or ["", "protect: []"]
    return "\n".join(lines) + "\n"


def flat_recipe(recipe: Recipe) -> dict[str, Any]:
    """The same as plain data, origins included."""
    names = _Names(recipe)
    return {
        "name": recipe.name,
        "file": recipe.file,
        "digest": recipe.digest,
        "summary": recipe.summary,
        "variables": {
            name: {"type": it.type, "value": it.value, "default": it.default, "set": it.set, "why": it.why}
            for name, it in recipe.variables.items()
        },
        "requires": list(recipe.requires),
        "target": target_keys(recipe.target) if recipe.target else {},
        "file_type": label_text(recipe),
        "default": recipe.default,
        "fallback": None if recipe.fallback == "chain" else recipe.fallback,
        "importance": _importance(recipe.importance),
        "budget": written_budget(recipe.budget) if recipe.budget else {},
        "prune": str(recipe.prune) if recipe.prune else None,
        "metadata": {key: write_metadata(value) for key, value in recipe.metadata.items()},
        "groups": {name: one_or_list(_texts(patterns)) for name, patterns in names.groups.items()},
        "facts": {name: names.text(fact) for name, fact in names.facts.items()},
        "rules": [_rule(rule, names) for rule in recipe.rules],
        "keep": [_entry(entry, names) for entry in recipe.keep],
    }


def _rule(rule: Rule, names: _Names) -> dict[str, Any]:
    return {
        "origin": str(rule.origin),
        "through": [str(origin) for origin in rule.through],
        "tensors": one_or_list(written_patterns(rule, names.groups)),
        "layers": str(rule.layers) if rule.layers else None,
        "when": names.text(rule.when) if rule.when else None,
        "type": rule.type or None,
        "choose": list(rule.choose),
        "options": plain(rule.options),
        "fallback": rule.fallback,
        "why": rule.why,
        "optional": rule.optional,
        "inherited": not rule.own,
    }


def _entry(entry: KeepEntry, names: _Names) -> dict[str, Any]:
    return {
        "origin": str(entry.origin),
        "tensors": one_or_list(_texts(entry.tensors)),
        "when": names.text(entry.when) if entry.when else None,
        "why": entry.why,
    }


def _importance(importance: ImportanceSource) -> str | dict[str, Any]:
    """What it says, without what holds anyway."""
    said = {
        "file": None if importance.file is None else importance.file.as_posix(),
        "uncovered": None if importance.uncovered == "warn" else importance.uncovered,
        "required": list(importance.required_for) or importance.required or None,
        "include": list(importance.include),
        "exclude": list(importance.exclude),
    }
    given = {key: value for key, value in said.items() if value}
    return "required" if given == {"required": True} else given


class _Names:
    """The names of groups and facts that mean one thing wherever a rule uses them."""

    def __init__(self, recipe: Recipe) -> None:
        facts: dict[str, Expression] = {}
        groups: dict[str, tuple[Pattern, ...]] = {}
        self._unclear: set[str] = set()
        asked = [*(rule.when for rule in recipe.rules), *(entry.when for entry in recipe.keep)]
        for when in asked:
            for name, fact in _used(when):
                if facts.setdefault(name, fact).canonical != fact.canonical:
                    self._unclear.add(name)
        for rule in recipe.rules:
            for name, patterns in rule.groups.items():
                if groups.setdefault(name, patterns) != patterns:
                    self._unclear.add(f"{GROUP}{name}")
        self.facts = {name: fact for name, fact in facts.items() if name not in self._unclear}
        self.groups = {name: it for name, it in groups.items() if f"{GROUP}{name}" not in self._unclear}

    def text(self, expression: Expression) -> str:
        """As it was written, if all names in it are clear."""
        unclear = any(name in self._unclear for name, _ in _used(expression))
        return expression.written_out if unclear else expression.text


def written_patterns(rule: Rule, groups: Collection[str] | None = None) -> list[str]:
    """The rule's patterns as the recipe has them: groups by their names (all, or only those of `groups`)."""
    texts = _texts(rule.tensors)
    for name, patterns in rule.groups.items():
        group, size = _texts(patterns), len(patterns)
        at = next((i for i in range(len(texts)) if texts[i : i + size] == group), None)
        if at is not None and (groups is None or name in groups):
            texts[at : at + size] = [f"{GROUP}{name}"]
    return texts


def _used(expression: Expression | None) -> Iterator[tuple[str, Expression]]:
    """The recipe's facts that an expression names, each behind those that it uses itself."""
    for name, fact in expression.defined.items() if expression else ():
        yield from _used(fact)
        yield name, fact


def _texts(patterns: Iterable[Pattern]) -> list[str]:
    return [str(pattern) for pattern in patterns]


def _line(key: str, value: Any) -> list[str]:
    return [] if value in (None, "", [], {}) else [f"{key}: {flow(value)}"]


def _block(key: str, values: Mapping[str, Any]) -> list[str]:
    """One line for each entry of a mapping."""
    return (
        ["", f"{key}:", *(f"  {flow(name)}: {flow(value)}" for name, value in values.items())]
        if values
        else []
    )


def _items(key: str, items: Iterable[Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for item in items:
        way = " → ".join(item.get("through", ()))
        lines += ["", f"  # {comment(item['origin'])}{f', by extends in {comment(way)}' if way else ''}"]
        lines += item_lines({name: it for name, it in item.items() if name not in ("origin", "through")})
    return ["", f"{key}:", *lines[1:]] if lines else []


def _set(variable: Mapping[str, Any]) -> str:
    return f", set instead of {comment(str(variable['default']))}" if variable["set"] else ""
