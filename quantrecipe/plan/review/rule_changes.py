"""What differs in the text of two recipes, parents included, and what each difference does to one model.

Rules are compared by what they say, wherever they stand. A rule that was changed is one whose tensors, layers and
condition are the same before and after, and whose decision isn't.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import SequenceMatcher
from typing import Literal

from quantrecipe.recipe.recipe import Budget, Recipe, Rule, VramBudget

__all__ = ["Decided", "RuleChange", "rule_changes"]

RuleKind = Literal["added", "removed", "changed", "moved", "reworded", "setting"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleChange:
    """One difference between two recipes.

    what:   the rule, or the setting with its values
    origin: where it stands in the new recipe, or stood in the old one; "" for settings of the whole recipe
    decides: how many tensors of the model this rule decides, or decided; None where it is no rule
    changes: how many of those get another type; None where that can't be said of it alone
    """

    kind: RuleKind
    what: str
    origin: str = ""
    decides: int | None = None
    changes: int | None = None

    @property
    def idle(self) -> bool:
        """True where it can do nothing: it decides no tensor, or only its reason is another."""
        return self.kind == "reworded" or self.decides == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Decided:
    """How many tensors each line decides, and how many of those change: Assignment.because → number."""

    tensors: Mapping[str, int] = field(default_factory=dict)
    changed: Mapping[str, int] = field(default_factory=dict)


def rule_changes(old: Recipe, new: Recipe, before: Decided, after: Decided) -> tuple[RuleChange, ...]:
    """Every difference that could matter, in the order of the new recipe; then what was taken out."""
    old_rules, new_rules = _by_meaning(old.rules), _by_meaning(new.rules)
    gone = _surplus(old.rules, old_rules, new_rules)
    come = _surplus(new.rules, new_rules, old_rules)
    place = {_scope(rule): rule for rule in gone}
    changes: list[RuleChange] = []
    paired: set[int] = set()
    for rule in come:
        if (was := place.pop(_scope(rule), None)) is not None:
            paired.add(id(was))
            what = f"{_names(rule)}: {_decision(was)} → {_decision(rule)}"
            then, now = _change("changed", was, before), _change("changed", rule, after, what)
            counts = max(then.decides or 0, now.decides or 0), max(then.changes or 0, now.changes or 0)
            changes.append(replace(now, decides=counts[0], changes=counts[1]))
        else:
            changes.append(_change("added", rule, after))
    changes += [_change("removed", rule, before) for rule in gone if id(rule) not in paired]
    only = {id(rule) for rule in (*gone, *come)}
    stayed = [[rule for rule in rules if id(rule) not in only] for rules in (old.rules, new.rules)]
    changes += [_change("moved", rule, after) for rule in _moved(stayed[0], stayed[1])]
    changes += [_change("reworded", rule, after, _names(rule)) for rule in _reworded(old_rules, new_rules)]
    return (*changes, *_settings(old, new))


def _change(kind: RuleKind, rule: Rule, decided: Decided, what: str = "") -> RuleChange:
    return RuleChange(
        kind=kind,
        what=what or _text(rule),
        origin=str(rule.origin),
        decides=_count(rule, decided.tensors),
        changes=_count(rule, decided.changed),
    )


def _meaning(rule: Rule) -> tuple[object, ...]:
    return (*_scope(rule), _decision(rule))


def _scope(rule: Rule) -> tuple[object, ...]:
    """What a rule is about: its patterns, layers and condition, in a form that can be compared."""
    return (
        tuple(map(str, rule.tensors)),
        str(rule.layers) if rule.layers else None,
        rule.when.canonical if rule.when else None,
    )


def _decision(rule: Rule) -> str:
    """What a rule decides, as text: the type or the types, options and fallback."""
    decided = rule.type or f"choose {', '.join(rule.choose)}"
    if rule.options:
        decided += f" ({', '.join(f'{name}={value}' for name, value in sorted(rule.options.items()))})"
    return f"{decided}, else {rule.fallback}" if rule.fallback else decided


def _names(rule: Rule) -> str:
    """What a rule is about, as a reader of the recipe would say it."""
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


def _count(rule: Rule, effects: Mapping[str, int]) -> int:
    """`because` may go on after the origin: "x.yaml:3, F32 as in llama.cpp", "x.yaml:7 (chosen)"."""
    origin = str(rule.origin)
    after = (f"{origin},", f"{origin} (")
    return sum(count for because, count in effects.items() if because == origin or because.startswith(after))


def _moved(old: Sequence[Rule], new: Sequence[Rule]) -> list[Rule]:
    """Of the rules that both have, those that stand elsewhere among the others."""
    before = [_meaning(rule) for rule in old]
    after = [_meaning(rule) for rule in new]
    if before == after:
        return []
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    return [
        new[place]
        for tag, _, _, start, stop in matcher.get_opcodes()
        if tag in ("insert", "replace")
        for place in range(start, stop)
    ]


def _reworded(
    before: Mapping[tuple[object, ...], list[Rule]], after: Mapping[tuple[object, ...], list[Rule]]
) -> list[Rule]:
    """The rules that decide as before, and give another reason."""
    return [
        new
        for meaning, rules in after.items()
        # From the end, where parents' rules stand, which both sides mostly share.
        for old, new in zip(reversed(before.get(meaning, ())), reversed(rules), strict=False)
        if old.why != new.why
    ]


def _settings(old: Recipe, new: Recipe) -> list[RuleChange]:
    """The differences in what holds for the whole recipe."""
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
        "file_type": recipe.label or "",
        "importance": importance.file.name if importance.file else "",
        "importance: uncovered": importance.uncovered,
        "importance: required": ", ".join(importance.required_for) or ("yes" if importance.required else ""),
        "importance: include": ", ".join(importance.include),
        "importance: exclude": ", ".join(importance.exclude),
        "prune": str(recipe.prune or ""),
        "protect": "; ".join(
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
    """The limits that a budget gives, as text."""
    given = {it.name: getattr(budget, it.name) for it in fields(budget) if it.name != "origin"}
    given = {
        key: f"({_plain(value)})" if isinstance(value, VramBudget) else value for key, value in given.items()
    }
    given |= {"ties": " ".join("+".join(map(str, tie)) for tie in given.pop("ties", ()))}
    return ", ".join(f"{key} {value}" for key, value in given.items() if value)
