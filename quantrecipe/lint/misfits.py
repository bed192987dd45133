"""QR208: types that tensors of these models don't accept, and what the recipe says of that."""

from __future__ import annotations

from collections.abc import Iterator

from quantrecipe.lint.finding import Finding
from quantrecipe.lint.subject import Outcome, Subject, View, names
from quantrecipe.recipe.recipe import Rule

__all__ = ["misfits"]


def misfits(subject: Subject) -> Iterator[Finding]:
    """One finding for each rule and type on each given model; an error where the recipe refuses fallbacks.

    Reference models only stand for others, whose rows have other lengths.
    """
    for view in subject.views:
        if view.reference:
            continue
        found: dict[tuple[int, str, str], list[Outcome]] = {}
        rules: dict[int, Rule | None] = {}
        for outcome in view.outcomes:
            for name in outcome.types:
                fmt = subject.format(name)
                if fmt is not None and (reason := fmt.accepts(outcome.tensor)):
                    rules[id(outcome.rule)] = outcome.rule
                    found.setdefault((id(outcome.rule), name, reason), []).append(outcome)
        for (key, name, reason), outcomes in found.items():
            yield _finding(subject, view, rules[key], name, reason, outcomes)


def _finding(
    subject: Subject, view: View, rule: Rule | None, name: str, reason: str, outcomes: list[Outcome]
) -> Finding:
    policy = (rule.fallback if rule else None) or subject.recipe.fallback
    tensors = names([outcome.tensor.role for outcome in outcomes])
    refused = policy == "error"
    return subject.finding(
        "QR208",
        subject.place(rule),
        f"{tensors} can't be {name} on {view.name}: {reason}; "
        + ("the recipe declares `fallback: error`" if refused else f"the fallback is {_says(policy)}"),
        "name a type that they can be in a rule of its own, or say `fallback:` if this one is meant",
        "error" if refused else None,
    )


def _says(policy: str) -> str:
    return "the format's own chain" if policy == "chain" else policy
