"""QR204 to QR207: layers and conditions that are about everything, about nothing, or about more than there is."""

from __future__ import annotations

from collections.abc import Iterator

from quantrecipe.lint.finding import Finding
from quantrecipe.lint.subject import Subject
from quantrecipe.plan.trace import Match
from quantrecipe.recipe.recipe import Rule
from quantrecipe.recipe.terms.fact_kinds import MODEL_FACTS
from quantrecipe.wording import quoted

__all__ = ["conditions"]

_ENOUGH_MODELS = 8
"""A condition about the model alone is the same for all its tensors: one model can't tell that it always is. Of
architectures there are more than any set of models has.
"""


def conditions(subject: Subject) -> Iterator[Finding]:
    """Rules of the file itself."""
    for number, rule in enumerate(subject.recipe.rules):
        if rule.own:
            yield from _layers(subject, rule, number)
            yield from _when(subject, rule, number)


def _matches(subject: Subject, number: int) -> list[Match]:
    return [found.matches[number][1] for view in subject.views for found in (view.bare, view.weighted)]


def _layers(subject: Subject, rule: Rule, number: int) -> Iterator[Finding]:
    if rule.layers is None:
        return
    named = [match for match in _matches(subject, number) if match.named]
    if named and all(match.in_layers == match.named for match in named):
        yield subject.finding(
            "QR204",
            rule.origin,
            f"the layers {rule.layers} leave no tensor out on any of these models",
            "leave `layers` out, or narrow it",
        )
    for view in subject.views:
        beyond = () if view.reference else rule.layers.beyond(view.n_blocks)
        if beyond:
            yield subject.finding(
                "QR207",
                rule.origin,
                f"the layers {', '.join(beyond)} go beyond {view.name}, which has layers 0-{view.n_blocks - 1}",
                "a fraction (last 1/8) fits models of any depth",
            )


def _when(subject: Subject, rule: Rule, number: int) -> Iterator[Finding]:
    when = rule.when
    if when is None:
        return
    asked = [match for match in _matches(subject, number) if match.in_layers]
    about_model = when.names <= MODEL_FACTS.keys()
    too_few = about_model and len(subject.views) < _ENOUGH_MODELS
    if when.names and (not asked or too_few or "arch" in when.names):
        return
    if not when.names:  # the same whatever the model
        always, never = bool(when.evaluate({})), not when.evaluate({})
    else:
        always = all(match.matched == match.in_layers for match in asked)
        never = not any(match.matched for match in asked)
    if never:
        yield subject.finding(
            "QR205",
            rule.origin,
            f"the condition {quoted(when.text)} is false for every tensor of every model that was looked at",
            "mend it, or leave the rule out",
        )
    elif always:
        yield subject.finding(
            "QR206",
            rule.origin,
            f"the condition {quoted(when.text)} is true for every tensor of every model that was looked at",
            "leave `when` out, or mend it",
        )
