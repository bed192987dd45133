"""Finding: one thing that a lint has to say, where, and how serious it is; and the codes of all kinds of findings.

A code never changes its meaning, and one that is given up isn't used again. docs/check.md has a section for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, Self

from quantrecipe.errors import Problem
from quantrecipe.plain_data import fields_of

__all__ = ["CODES", "GENERAL", "SEVERITIES", "Code", "Finding", "Severity", "worst"]

Severity = Literal["error", "warning", "advice"]
"""An error is wrong whatever was meant; a warning is probably not what was meant; advice is a matter of judgement."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "advice")
"""The most serious first."""

GENERAL = "QR001"
"""The code of what the loader refuses without a code of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """A kind of finding, and how serious it is unless a lint says otherwise."""

    code: str
    severity: Severity
    title: str


_ALL = (
    # Reading
    ("QR001", "error", "the recipe says what can't be read or done"),
    ("QR002", "error", "an unknown key"),
    ("QR003", "error", "a type that there isn't, or isn't any more"),
    ("QR004", "error", "not YAML, or YAML that recipes don't use"),
    ("QR005", "error", "a value of another kind than meant; it needs quotes, or none"),
    # The text
    ("QR101", "warning", "a rule without a reason"),
    ("QR102", "warning", "a text that ends at a #, since the rest is a comment"),
    ("QR103", "warning", "an `allow` comment that allows nothing, or gives no reason"),
    # Rules and models
    ("QR201", "error", "a rule that earlier rules hide"),
    ("QR202", "error", "a rule that names no tensor"),
    ("QR203", "error", "a rule whose layers hold no tensor"),
    ("QR204", "warning", "layers that leave nothing out"),
    ("QR205", "warning", "a condition that is never true"),
    ("QR206", "warning", "a condition that is always true"),
    ("QR207", "warning", "layers beyond the model's last one"),
    ("QR208", "advice", "a type that a tensor doesn't accept, so that it falls back"),
    ("QR209", "error", "a condition that fails on a model"),
    ("QR210", "warning", "a mix that leaves much of a model as it is"),
    ("QR211", "warning", "a label that most weights contradict"),
    ("QR212", "warning", "a source type that there isn't"),
    # Quality
    ("QR301", "warning", "types that need importance, in a recipe that asks for none"),
    ("QR302", "advice", "a type below what is advised for its role"),
    ("QR303", "advice", "so few bits that the file is for experiments"),
    ("QR304", "advice", "few bits for code"),
    # Targets
    ("QR401", "error", "a type that the target can't run"),
    ("QR402", "warning", "a type that is slow on the target"),
    ("QR403", "advice", "what the table of targets doesn't know"),
)

CODES: Mapping[str, Code] = MappingProxyType(
    {code: Code(code=code, severity=severity, title=title) for code, severity, title in _ALL}  # type: ignore[arg-type]  # the literals above
)
"""Every code, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A problem, under the code of its kind."""

    code: str
    severity: Severity
    problem: Problem

    @classmethod
    def of(cls, code: str, problem: Problem, severity: Severity | None = None) -> Self:
        """A finding of this kind, as serious as the kind is unless a severity is given."""
        return cls(code=code, severity=severity or CODES[code].severity, problem=replace(problem, code=code))

    def to_json(self) -> dict[str, Any]:
        """What is printed of it: its kind, then where it is, what it is, and what to do."""
        place = fields_of(self.problem, "file", "line", "column", "what", "remedy")
        return fields_of(self, "code", "severity") | place


def worst(findings: Iterable[Finding]) -> Severity | None:
    """The most serious of the severities; None where nothing was found."""
    return min((finding.severity for finding in findings), key=SEVERITIES.index, default=None)
