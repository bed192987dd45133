"""QR301: types that need an importance matrix, in a recipe that doesn't say that it wants one.

Whoever applies such a recipe finds out late, or not at all. `importance: required` is enough: the matrix itself may
be given when the recipe is applied.
"""

from __future__ import annotations

from collections.abc import Iterator

from quantrecipe.lint.finding import Finding
from quantrecipe.lint.subject import Subject, View, names
from quantrecipe.recipe.recipe import Rule

__all__ = ["importance"]

_NEVER_COVERED = ("token_embd", "per_layer_token_embd", "output")
"""Calibration leaves these out."""


def importance(subject: Subject) -> Iterator[Finding]:
    """One finding for each rule that gives such types; an error where the type can't be made without."""
    source = subject.recipe.importance
    if source.required or source.file is not None:
        return
    found: dict[int, tuple[Rule | None, list[str]]] = {}
    for name, rule in _needy(subject):
        if name not in source.required_for:
            found.setdefault(id(rule), (rule, []))[1].append(name)
    for rule, types in found.values():
        unique = sorted(set(types))
        levels = {fmt.spec.importance for fmt in map(subject.format, unique) if fmt is not None}
        impossible = "required" in levels
        yield subject.finding(
            "QR301",
            subject.place(rule),
            f"{names(unique)} {'can' + chr(39) + 't be made' if impossible else 'loses much'} without an importance "
            "matrix, and the recipe asks for none",
            "say `importance: required`, or name the file: `importance: {file: imatrix.gguf}`",
            "error" if impossible else None,
        )


def _needy(subject: Subject) -> Iterator[tuple[str, Rule | None]]:
    if not subject.views:
        yield from ((name, rule) for name, rule in subject.types_in_use().items() if _needs(subject, name))
    for view in subject.views:
        yield from _on(subject, view)


def _on(subject: Subject, view: View) -> Iterator[tuple[str, Rule | None]]:
    for outcome in view.outcomes:
        if outcome.tensor.role not in _NEVER_COVERED:
            yield from ((name, outcome.rule) for name in outcome.types if _needs(subject, name))


def _needs(subject: Subject, name: str) -> bool:
    fmt = subject.format(name)
    return fmt is not None and fmt.spec.importance in ("advised", "required")
