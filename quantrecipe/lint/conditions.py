"""QR204 to QR207 and QR212: layers and conditions about everything, about nothing, or about more than there is."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from quantrecipe.lint.finding import Finding
from quantrecipe.lint.subject import Subject
from quantrecipe.model.source.source import STORED_TYPES
from quantrecipe.plan.trace import Match
from quantrecipe.recipe.recipe import Rule
from quantrecipe.recipe.terms.fact_kinds import MODEL_FACTS
from quantrecipe.wording import quoted

__all__ = ["conditions"]

_ENOUGH_MODELS = 8
"""A condition about the model alone is the same for all its tensors: one model can't tell that it always is. Of
architectures there are more than any set of models has.
"""

_ANY = {"arch", "source_type"}
"""Facts that have more values than any set of models shows."""


def conditions(subject: Subject) -> Iterator[Finding]:
    """Rules of the file itself."""
    for number, rule in enumerate(subject.recipe.rules):
        if rule.own:
            yield from _layers(subject, rule, number)
            yield from _when(subject, rule, number)
            yield from _source_types(subject, rule)


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
    if when.names and (not asked or too_few or when.names & _ANY):
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


def _source_types(subject: Subject, rule: Rule) -> Iterator[Finding]:
    """Texts that `source_type` is compared with, and never is."""
    if rule.when is None or "source_type" not in rule.when.names:
        return
    known = {*subject.registry.formats, *STORED_TYPES}
    for text in sorted(_compared(ast.parse(rule.when.written_out.strip(), mode="eval")) - known):
        near = next((name for name in sorted(known) if name.lower() == text.lower()), None)
        yield subject.finding(
            "QR212",
            rule.origin,
            f"there is no source type {text!r}",
            f"write {near!r}" if near else f"write the name of a type, or one of {', '.join(STORED_TYPES)}",
        )


def _compared(tree: ast.AST) -> set[str]:
    """The texts on either side of comparisons with `source_type`, those of lists included."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        if any(isinstance(side, ast.Name) and side.id == "source_type" for side in sides):
            texts = (it.value for side in sides for it in ast.walk(side) if isinstance(it, ast.Constant))
            found.update(text for text in texts if isinstance(text, str))
    return found
