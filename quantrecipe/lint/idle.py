"""QR201, QR202, QR203: rules that can't do anything: hidden, or about no tensor.

On a model that was given, what `plan` would refuse is an error. Reference models only stand for others: there, a
rule has to be idle on all of them to be worth a word, and only a hidden one is certainly wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from quantrecipe.lint.finding import Finding
from quantrecipe.lint.subject import Subject, View, names, on_model
from quantrecipe.plan.trace import doubts
from quantrecipe.recipe.recipe import Rule
from quantrecipe.recipe.terms.meant_patterns import is_llama_cpp_s, meant

__all__ = ["idle_rules"]

_MOST_HINTS = 20


def idle_rules(subject: Subject) -> Iterator[Finding]:
    """Rules of the file itself; inherited ones may lie idle."""
    given = [view for view in subject.views if not view.reference]
    reference = [view for view in subject.views if view.reference]
    told: set[int] = set()
    for view in given:
        for finding in _on_given(view):
            told.add(finding.problem.line or 0)
            yield finding
    before: dict[str, list[Rule]] = {}
    for number, rule in enumerate(subject.recipe.rules):
        texts = frozenset(str(pattern) for pattern in rule.tensors)
        hider = _same_before(rule, texts, before)
        for text in texts:
            before.setdefault(text, []).append(rule)
        if not rule.own or rule.origin.line in told:
            continue
        if hider is not None:
            yield _hidden(subject, rule, [hider])
        elif subject.views:
            found = list(_everywhere(subject, rule, number, [*given, *reference]))
            told |= {finding.problem.line or 0 for finding in found}
            yield from found
    yield from _half_idle(subject, told)


def _half_idle(subject: Subject, told: Collection[int]) -> Iterator[Finding]:
    """Patterns that name nothing anywhere, in rules that have others beside them. Inherited rules may have such."""
    tensors = {tensor.name: tensor for view in subject.views for tensor in view.bare.tensors}
    for problem in doubts(subject.recipe, list(tensors.values())) if subject.views else ():
        if problem.line not in told:
            what = problem.what.replace("of this model", "of any model here")
            yield Finding.of("QR202", replace(problem, what=what), "warning")


def _on_given(view: View) -> Iterator[Finding]:
    weighted = {(problem.line, problem.code) for problem in view.weighted.problems}
    for problem in view.bare.problems:
        if (problem.line, problem.code) not in weighted:
            continue  # with an importance matrix it has something to do
        yield Finding.of(problem.code, on_model(problem, view.name), "error")


def _same_before(rule: Rule, texts: frozenset[str], before: Mapping[str, list[Rule]]) -> Rule | None:
    """An earlier rule that is about all that this one is, whatever the model; as far as the texts show it."""
    for other in before.get(next(iter(texts), ""), ()):
        as_many_layers = other.layers is None or str(other.layers) == str(rule.layers)
        if other.when is None and as_many_layers and texts <= {str(pattern) for pattern in other.tensors}:
            return other
    return None


def _everywhere(subject: Subject, rule: Rule, number: int, views: list[View]) -> Iterator[Finding]:
    """What holds on every model that there is."""
    traces = [found for view in views for found in (view.bare, view.weighted)]
    matches = [found.matches[number][1] for found in traces]
    patterns = names([str(pattern) for pattern in rule.tensors])
    if not any(match.named for match in matches):
        if any(map(is_llama_cpp_s, rule.tensors)) or (
            rule.optional and not any(view.reference for view in views)
        ):
            return  # other models have it
        roles = {tensor.role for view in views for tensor in view.bare.tensors}
        hints = [hint for pattern in rule.tensors[:_MOST_HINTS] if (hint := meant(str(pattern), roles))]
        yield subject.finding(
            "QR202",
            rule.origin,
            f"no tensor of any {_kind(views)} is named by {patterns!r}",
            "; ".join(dict.fromkeys(hints)) or "check the name, or give the model that it is for: --model",
            "warning",
        )
    elif not any(match.in_layers for match in matches):
        yield subject.finding(
            "QR203",
            rule.origin,
            f"no tensor of any {_kind(views)} that {patterns!r} names is in the layers {rule.layers}",
            "layers are counted from 0, and a fraction rounds down: first 1/8 of seven layers are none",
            "warning",
        )
    else:
        hiders: list[Rule] = []
        for found, match in zip(traces, matches, strict=True):
            deciders = [found.decided[name] for name in sorted(match.matched)]
            if any(decider is rule or not decider.own for decider in deciders):
                return
            hiders += deciders
        if hiders and not (rule.optional and any(hider.when is not None for hider in hiders)):
            yield _hidden(subject, rule, hiders)


def _hidden(subject: Subject, rule: Rule, hiders: list[Rule]) -> Finding:
    lines = names([str(hider.origin.line) for hider in hiders])
    patterns = names([str(pattern) for pattern in rule.tensors])
    return subject.finding(
        "QR201",
        rule.origin,
        f"this rule never decides: line {lines} takes every tensor of {patterns!r} before it",
        "the first rule that matches wins: move this one up, or narrow the earlier one",
    )


def _kind(views: list[View]) -> str:
    return "reference model" if all(view.reference for view in views) else "model"
