"""Finding: one thing that a lint has to say, where, and how serious it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from quantrecipe.errors import Problem
from quantrecipe.plain_data import fields_of

__all__ = ["SEVERITIES", "Finding", "Severity", "worst"]

Severity = Literal["error", "warning", "advice"]
"""An error is wrong whatever was meant; a warning is probably not what was meant; advice is a matter of judgement."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "advice")
"""The most serious first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A problem, under the code of its kind."""

    code: str
    severity: Severity
    problem: Problem

    def to_json(self) -> dict[str, Any]:
        """What is printed of it: its kind, then where it is, what it is, and what to do."""
        place = fields_of(self.problem, "file", "line", "column", "what", "remedy")
        return fields_of(self, "code", "severity") | place


def worst(findings: Iterable[Finding]) -> Severity | None:
    """The most serious of the severities; None where nothing was found."""
    return min((finding.severity for finding in findings), key=SEVERITIES.index, default=None)
