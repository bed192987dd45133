"""QR101: a rule of the file itself that gives no reason."""

from __future__ import annotations

from collections.abc import Iterator

from quantrecipe.lint.finding import Finding
from quantrecipe.lint.subject import Subject

__all__ = ["reasons"]


def reasons(subject: Subject) -> Iterator[Finding]:
    """Under --strict they are demanded."""
    for rule in subject.own_rules:
        if not rule.why:
            yield subject.finding(
                "QR101",
                rule.origin,
                "the rule gives no reason",
                "say why: the next reader has to decide whether it still holds",
                "error" if subject.strict else None,
            )
