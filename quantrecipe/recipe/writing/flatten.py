"""A recipe flattened: all that it extends is merged in. For people each rule says where it comes from:

    # llama.cpp@b11312/mixture:8, by extends in recipes/code-model.yaml:5 → llama.cpp@b11312/Q4_K_M:6
    - tensors: ["*attn_q_{a,b}*", nextn.eh_proj]
      when: arch == 'glm5-next'
      type: Q8_0

Variables are filled in. Groups and facts keep their names where one name means one thing in the whole recipe; else
they are written out.

The text that is recorded in the files that a recipe makes (`recipe_text`) has everything written out. Both load again,
on any machine, to a recipe that means the same: `load_recipe_text(recipe.text).digest == recipe.digest`, as long as
the formats are there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from quantrecipe.recipe.budget import written_budget
from quantrecipe.recipe.metadata import write_metadata
from quantrecipe.recipe.recipe import EncoderChoice, ImportanceSource, KeepEntry, Origin, Recipe, Rule
from quantrecipe.recipe.target import target_keys
from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.pattern import GROUP, Pattern
from quantrecipe.recipe.writing.recipe_digest import plain
from quantrecipe.recipe.writing.recipe_yaml import COMMENTS, one_or_list, recipe_yaml

__all__ = [
    "encoder_keys",
    "flat_recipe",
    "flat_text",
    "named_facts",
    "recipe_text",
    "rule_keys",
    "written_patterns",
]

_ORIGIN = ("origin", "through")


def flat_text(recipe: Recipe) -> str:
    """Return the YAML for people."""
    flat = flat_recipe(recipe)
    above = [f"{recipe.file}, with all that it extends; the first rule that matches a tensor decides"]
    above += [f"${name} is {it['value']}{_set(it)}" for name, it in flat["variables"].items()]
    keys = {
        key: it for key, it in flat.items() if key not in ("file", "digest", "variables", "rules", "keep")
    }
    keys["rules"] = [_with_comments(rule) for rule in flat["rules"]]
    keys["protect"] = [_with_comments(entry) for entry in flat["keep"]]
    behind = {"default": str(recipe.default_origin)} if recipe.default_origin else {}
    return recipe_yaml(keys, above=above, behind=behind, airy=True).text


def recipe_text(recipe: Recipe, importance_file: str | None = None) -> str:
    """Return the YAML for files.

    Each rule's origin stands in a comment, without folders. Inherited rules are marked: they may lie idle. The
    importance matrix stands as the recipe wrote it (`importance_file`).
    """
    importance = recipe.importance
    said: dict[str, Any] = {} if importance_file is None else {"file": importance_file}
    said |= {"uncovered": importance.uncovered, "required": importance.demand}
    said |= {key: list(it) for key in ("include", "exclude") if (it := getattr(importance, key))}
    head = _head(recipe)
    head |= {"fallback": recipe.fallback, "importance": said}

    def item(it: Rule | KeepEntry, keys: dict[str, Any]) -> dict[str, Any]:
        return {COMMENTS: [_recorded_place(it.origin)], "tensors": _texts(it.tensors), **keys}

    head["rules"] = [item(it, rule_keys(it, _written_out)) for it in recipe.rules]
    # By its former name: a file that is made again has the same bytes as before.
    head["keep"] = [item(it, _entry_keys(it, _written_out)) for it in recipe.keep]
    return recipe_yaml(head, above=[f"{recipe.name}, with its parents merged in"], for_files=True).text


def flat_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return what `flat_text` says as plain data, with the origin of each rule."""
    names = _Names(recipe)
    head = _head(recipe)
    return {
        "name": head.pop("name"),
        "file": recipe.file,
        "digest": recipe.digest,
        "summary": head.pop("summary"),
        "variables": {
            name: {"type": it.type, "value": it.value, "default": it.default, "set": it.set, "why": it.why}
            for name, it in recipe.variables.items()
        },
        **head,
        "groups": {name: one_or_list(_texts(patterns)) for name, patterns in names.groups.items()},
        "facts": {name: names.text(fact) for name, fact in names.facts.items()},
        "rules": [
            {
                "origin": str(rule.origin),
                "through": [str(origin) for origin in rule.through],
                "tensors": one_or_list(written_patterns(rule, names.groups)),
                **rule_keys(rule, names.text),
            }
            for rule in recipe.rules
        ],
        "keep": [
            {
                "origin": str(entry.origin),
                "tensors": one_or_list(_texts(entry.tensors)),
                **_entry_keys(entry, names.text),
            }
            for entry in recipe.keep
        ],
    }


def _importance_keys(importance: ImportanceSource) -> str | dict[str, Any]:
    """Return the value of the key `importance`, without what holds anyway."""
    said = {
        "file": None if importance.file is None else importance.file.as_posix(),
        "uncovered": None if importance.uncovered == "warn" else importance.uncovered,
        "required": importance.demand,
        "include": list(importance.include),
        "exclude": list(importance.exclude),
    }
    given = {key: value for key, value in said.items() if value}
    return "required" if given == {"required": True} else given


def encoder_keys(encoder: EncoderChoice | None) -> str | dict[str, Any] | None:
    """Return the value of the key `encoder`."""
    if encoder is None:
        return None
    keys = {"name": encoder.name, **plain(encoder.options)}
    if encoder.except_layers:
        keys["except_layers"] = str(encoder.except_layers)
    return keys if len(keys) > 1 else encoder.name


def _head(recipe: Recipe) -> dict[str, Any]:
    """Return all keys but the definitions and the lists."""
    return {
        "name": recipe.name,
        "summary": recipe.summary,
        "requires": list(recipe.requires),
        "target": target_keys(recipe.target) if recipe.target else {},
        "file_type": recipe.label,
        "default": recipe.default,
        "fallback": None if recipe.fallback == "chain" else recipe.fallback,
        "importance": _importance_keys(recipe.importance),
        "encoder": encoder_keys(recipe.encoder),
        "budget": written_budget(recipe.budget) if recipe.budget else {},
        "prune": str(recipe.prune) if recipe.prune else None,
        "metadata": {key: write_metadata(value) for key, value in recipe.metadata.items()},
    }


def rule_keys(rule: Rule, text: Callable[[Expression], str]) -> dict[str, Any]:
    """Return the keys of a rule behind `tensors`. `text` writes its `when`."""
    return {
        "layers": str(rule.layers) if rule.layers else None,
        "when": text(rule.when) if rule.when else None,
        "type": rule.type or None,
        "choose": list(rule.choose),
        "options": plain(rule.options),
        "encoder": encoder_keys(rule.encoder),
        "fallback": rule.fallback,
        "why": rule.why,
        "optional": rule.optional,
        "inherited": not rule.own,
    }


def _entry_keys(entry: KeepEntry, text: Callable[[Expression], str]) -> dict[str, Any]:
    return {"when": text(entry.when) if entry.when else None, "why": entry.why}


def _written_out(expression: Expression) -> str:
    return expression.written_out


class _Names:
    """The names of groups and facts that mean one thing wherever a rule uses them."""

    def __init__(self, recipe: Recipe) -> None:
        facts: dict[str, Expression] = {}
        groups: dict[str, tuple[Pattern, ...]] = {}
        self._unclear: set[str] = set()
        asked = [*(rule.when for rule in recipe.rules), *(entry.when for entry in recipe.keep)]
        for when in asked:
            for name, fact in named_facts(when):
                if facts.setdefault(name, fact).canonical != fact.canonical:
                    self._unclear.add(name)
        for rule in recipe.rules:
            for name, patterns in rule.groups.items():
                if groups.setdefault(name, patterns) != patterns:
                    self._unclear.add(f"{GROUP}{name}")
        self.facts = {name: fact for name, fact in facts.items() if name not in self._unclear}
        self.groups = {name: it for name, it in groups.items() if f"{GROUP}{name}" not in self._unclear}

    def text(self, expression: Expression) -> str:
        """Return the expression as it was written if all names in it are clear, else written out."""
        unclear = any(name in self._unclear for name, _ in named_facts(expression))
        return expression.written_out if unclear else expression.text


def written_patterns(rule: Rule, groups: Collection[str] | None = None) -> list[str]:
    """Return the rule's patterns as the recipe has them, with the names of groups: of all, or of those in `groups`."""
    texts = _texts(rule.tensors)
    for name, patterns in rule.groups.items():
        group, size = _texts(patterns), len(patterns)
        at = next((i for i in range(len(texts)) if texts[i : i + size] == group), None)
        if at is not None and (groups is None or name in groups):
            texts[at : at + size] = [f"{GROUP}{name}"]
    return texts


def named_facts(expression: Expression | None) -> Iterator[tuple[str, Expression]]:
    """Yield the recipe's facts that an expression names, each after those that it uses itself."""
    for name, fact in expression.defined.items() if expression else ():
        yield from named_facts(fact)
        yield name, fact


def _texts(patterns: Iterable[Pattern]) -> list[str]:
    return [str(pattern) for pattern in patterns]


def _with_comments(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item of `flat_recipe` with its origin as a comment above it."""
    way = " → ".join(item.get("through", ()))
    origin = f"{item['origin']}{f', by extends in {way}' if way else ''}"
    return {COMMENTS: [origin], **{key: it for key, it in item.items() if key not in _ORIGIN}}


def _recorded_place(origin: Origin) -> str:
    """Return the origin without the folders of this machine. Shipped recipes keep their names."""
    path = PurePosixPath(origin.file)
    is_path = path.suffix in (".yaml", ".yml") or path.is_absolute() or ".." in path.parts
    return f"{path.name if is_path else origin.file}:{origin.line}"


def _set(variable: Mapping[str, Any]) -> str:
    return f", set instead of {variable['default']}" if variable["set"] else ""
