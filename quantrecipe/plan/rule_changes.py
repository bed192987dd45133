"""What differs in the text of two recipes, parents included, and what each difference does to one model.

Rules are compared by what they say, wherever they stand. A rule that was changed is one whose tensors, layers and
condition are the same before and after, and whose decision isn't.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import SequenceMatcher
from typing import Any, Literal

from quantrecipe.recipe.recipe import Budget, Recipe, Rule, VramBudget

__all__ = ["RuleChange", "rule_changes"]

RuleKind = Literal["added", "removed", "changed", "moved", "reworded", "setting"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleChange:
    """One difference.

    what:   the rule, or the setting with its values
    origin: where it stands in the new recipe, or stood in the old one; "" for settings of the whole recipe
    effect: how many tensors of the model get another type where this rule decides, or decided; None where that
            can't be said of it alone
    """

    kind: RuleKind
    what: str
    origin: str = ""
    effect: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data for machines."""
        return {"kind": self.kind, "what": self.what, "origin": self.origin, "tensors": self.effect}


def rule_changes(
    old: Recipe, new: Recipe, old_effects: Mapping[str, int], new_effects: Mapping[str, int]
) -> tuple[RuleChange, ...]:
    """Every difference that could matter, in the order of the new recipe; then what was taken out.

    effects: how many of the tensors that change are decided by each line: Assignment.because → number
    """
    before, after = _by_meaning(old.rules), _by_meaning(new.rules)
    gone = _surplus(old.rules, before, after)
    come = _surplus(new.rules, after, before)
    place = {_scope(rule): rule for rule in gone}
    changes: list[RuleChange] = []
    paired: set[int] = set()
    for rule in come:
        effect = _effect(rule, new_effects)
        if (was := place.pop(_scope(rule), None)) is not None:
            paired.add(id(was))
            what = f"{_names(rule)}: {_decision(was)} → {_decision(rule)}"
            effect = max(effect, _effect(was, old_effects))
            changes.append(RuleChange(kind="changed", what=what, origin=str(rule.origin), effect=effect))
        else:
            changes.append(RuleChange(kind="added", what=_text(rule), origin=str(rule.origin), effect=effect))
    changes += [
        RuleChange(
            kind="removed", what=_text(rule), origin=str(rule.origin), effect=_effect(rule, old_effects)
        )
        for rule in gone
        if id(rule) not in paired
    ]
    only = {id(rule) for rule in (*gone, *come)}
    stayed = [[rule for rule in rules if id(rule) not in only] for rules in (old.rules, new.rules)]
    changes += _moved(stayed[0], stayed[1], new_effects)
    changes += _reworded(before, after)
    return (*changes, *_settings(old, new))


def _meaning(rule: Rule) -> tuple[object, ...]:
    return (*_scope(rule), _decision(rule))


def _scope(rule: Rule) -> tuple[object, ...]:
    """What a rule is about."""
    return (
        tuple(map(str, rule.tensors)),
        str(rule.layers) if rule.layers else None,
        rule.when.canonical if rule.when else None,
    )


def _decision(rule: Rule) -> str:
    """What it decides."""
    decided = rule.type or f"choose {', '.join(rule.choose)}"
    if rule.options:
        decided += f" ({', '.join(f'{name}={value}' for name, value in sorted(rule.options.items()))})"
    return f"{decided}, else {rule.fallback}" if rule.fallback else decided


def _names(rule: Rule) -> str:
    """What it is about, in words."""
    text = ", ".join(map(str, rule.tensors))
    if rule.layers:
        text += f" in layers {rule.layers}"
    return f"{text} when {rule.when}" if rule.when else text


def _text(rule: Rule) -> str:
    return f"{_names(rule)}: {_decision(rule)}"


def _by_meaning(rules: Sequence[Rule]) -> dict[tuple[object, ...], list[Rule]]:
    found: dict[tuple[object, ...], list[Rule]] = defaultdict(list)
    for rule in rules:
        found[_meaning(rule)].append(rule)
    return found


def _surplus(
    rules: Sequence[Rule],
    here: Mapping[tuple[object, ...], list[Rule]],
    there: Mapping[tuple[object, ...], list[Rule]],
) -> list[Rule]:
    """The rules that the other side doesn't have, or has less often; of several that say the same, the first ones.

    The last ones are the parents', which both sides mostly share.
    """
    extra = {
        id(rule)
        for meaning, found in here.items()
        for rule in found[: max(0, len(found) - len(there.get(meaning, ())))]
    }
    return [rule for rule in rules if id(rule) in extra]


def _effect(rule: Rule, effects: Mapping[str, int]) -> int:
    """`because` may go on after the origin: "x.yaml:3, F32 as in llama.cpp", "x.yaml:7 (chosen)"."""
    origin = str(rule.origin)
    after = (f"{origin},", f"{origin} (")
    return sum(count for because, count in effects.items() if because == origin or because.startswith(after))


def _moved(old: Sequence[Rule], new: Sequence[Rule], effects: Mapping[str, int]) -> list[RuleChange]:
    """Of the rules that both have, those that stand elsewhere among the others."""
    before = [_meaning(rule) for rule in old]
    after = [_meaning(rule) for rule in new]
    if before == after:
        return []
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    moved = [
        new[place]
        for tag, _, _, start, stop in matcher.get_opcodes()
        if tag in ("insert", "replace")
        for place in range(start, stop)
    ]
    return [
        RuleChange(kind="moved", what=_text(rule), origin=str(rule.origin), effect=_effect(rule, effects))
        for rule in moved
    ]


def _reworded(
    before: Mapping[tuple[object, ...], list[Rule]], after: Mapping[tuple[object, ...], list[Rule]]
) -> list[RuleChange]:
    """Rules that decide as before, for another reason."""
    return [
        RuleChange(kind="reworded", what=_names(new), origin=str(new.origin), effect=0)
        for meaning, rules in after.items()
        for old, new in zip(reversed(before.get(meaning, ())), reversed(rules), strict=False)
        if old.why != new.why
    ]


def _settings(old: Recipe, new: Recipe) -> list[RuleChange]:
    """What holds for the whole recipe."""
    before, after = _setting_texts(old), _setting_texts(new)
    return [
        RuleChange(kind="setting", what=f"{key}: {before[key] or 'none'} → {after[key] or 'none'}")
        for key in before
        if before[key] != after[key]
    ]


def _setting_texts(recipe: Recipe) -> dict[str, str]:
    importance, target, budget = recipe.importance, recipe.target, recipe.budget
    return {
        "default": recipe.default or "",
        "fallback": recipe.fallback,
        "file_type": recipe.file_type or "",
        "importance": importance.file.name if importance.file else "",
        "importance: uncovered": importance.uncovered,
        "importance: required": ", ".join(importance.required_for) or ("yes" if importance.required else ""),
        "importance: include": ", ".join(importance.include),
        "importance: exclude": ", ".join(importance.exclude),
        "prune": str(recipe.prune or ""),
        "keep": "; ".join(
            f"{', '.join(map(str, entry.tensors))}{f' when {entry.when}' if entry.when else ''}"
            for entry in recipe.keep
        ),
        "metadata": ", ".join(f"{key}={value.decode()}" for key, value in recipe.metadata.items()),
        "target": ""
        if target is None
        else " ".join(filter(None, (target.engine, target.build, target.device))),
        "budget": "" if budget is None else _plain(budget),
        "requires": ", ".join(recipe.requires),
    }


def _plain(budget: Budget | VramBudget) -> str:
    """What is given of it."""
    given = {field.name: getattr(budget, field.name) for field in fields(budget) if field.name != "origin"}
    given = {
        key: f"({_plain(value)})" if isinstance(value, VramBudget) else value for key, value in given.items()
    }
    given |= {"ties": " ".join("+".join(map(str, tie)) for tie in given.pop("ties", ()))}
    return ", ".join(f"{key} {value}" for key, value in given.items() if value)
